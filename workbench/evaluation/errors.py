"""Errors raised by evaluation; the command line ends with their one sentence and exit code 2."""

from dynrefer.model.errors import ModelError


class DataError(ModelError):
    """Labelled data or predictions that cannot be measured: the message names the file, the line or the region."""


class MissingJavaError(ModelError):
    """METEOR and the original tokenizer are Java programs, and no `java` was found."""
