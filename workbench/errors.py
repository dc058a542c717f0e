"""Errors that end a workbench command with one sentence and exit code 2.

    ModelError
    ├── DataError                    annotations, captions or predictions that cannot be used
    │   └── TooManyBadSamplesError   more samples are bad than may be skipped
    ├── TrainingError                a run that cannot begin or continue
    │   └── SettingError             a setting of the run that cannot be honoured
    └── MissingJavaError             METEOR and the original tokenizer need Java

`BadSampleError` stands outside the tree: it is about one sample, and the reader decides what becomes of it.
"""

from dynrefer.model.errors import ModelError


class DataError(ModelError):
    """Data that cannot be used: names the file, the line or the region, and the fix."""


class TooManyBadSamplesError(DataError):
    """More than the allowed proportion of the samples cannot be read; names the first of them."""


class TrainingError(ModelError):
    """The run cannot begin or continue."""


class SettingError(TrainingError):
    """A setting of the run that cannot be honoured; names the flag."""


class MissingJavaError(ModelError):
    """METEOR and the original tokenizer are Java programs, and no `java` was found."""


class BadSampleError(Exception):
    """One annotation, caption or image that cannot be used; a clause without its full stop, for a `BadSample`."""
