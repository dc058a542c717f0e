"""What training on real data may complain of; one sentence each, for the person who started it."""

from dynrefer.model.errors import ModelError


class TrainingError(ModelError):
    """Base: the run cannot begin or go on."""


class SettingError(TrainingError):
    """A setting of the run that cannot be honoured; names the flag."""


class AnnotationError(TrainingError):
    """An annotation file that cannot be read as a whole; names the file."""


class TooManyBadSamplesError(TrainingError):
    """More than the allowed share of the samples cannot be read; names the first of them."""


class SampleError(Exception):
    """One sample that cannot be read, and why. The reader skips, counts and names it; it never ends a run by itself."""
