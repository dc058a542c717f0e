"""Errors that are kept for somebody else to raise, without the functions that they passed through.

An error's trace holds the frames of those functions and of their callers, and a frame its variables: a request's
regions, memory of the device, and often the very place where the error is kept. Such a circle stays until the garbage
collector finds it.
"""

import copy
import traceback
from typing import TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


class Trace(Exception):
    """Where an error was raised, as text: its cause, as `concurrent.futures` has it for errors of other processes."""


def kept(error: ErrorT) -> ErrorT:
    """The same error, to be kept. Its trace and the errors behind it are a text from now on, which stands in the log
    where it is logged."""
    if error.__traceback__ is not None:
        text = "".join(traceback.format_exception(error))
        error.__traceback__ = error.__context__ = None
        error.__cause__ = Trace(f"\n{text.rstrip()}")
    return error


def anew(error: ErrorT) -> ErrorT:
    """A copy, to be raised by a function that holds the error: the error itself would hold that function by its trace,
    and so itself."""
    return copy.copy(error)
