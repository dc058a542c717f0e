"""What evaluation may complain of; the command line ends with one sentence and exit code 2."""

from dynrefer.model.errors import ModelError


class DataError(ModelError):
    """Labelled data or predictions that cannot be measured: names the file, the line or the region, and the fix."""


class MissingJavaError(ModelError):
    """METEOR and the original tokenizer are Java programs, and no `java` was found."""
