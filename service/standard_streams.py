"""The standard streams of a command: all three are open, and what cannot be printed is one known error."""

import io
import os
import sys


class UnwritableOutput(Exception):
    """Standard output cannot be written: its disk is full, or its reader has gone. The text says why."""


class _Output(io.FileIO):
    """Standard output's file. Not an OSError is raised, which might be taken for that of another file."""

    def write(self, data: object) -> int:
        """Raises UnwritableOutput."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise UnwritableOutput(os.strerror(error.errno or 0).lower()) from None


def prepare_standard_streams() -> None:
    """To be called once, before anything is opened or printed; `finish_output` belongs to it.

    A stream that the process was started without gets the null device; output cannot be written to it then. Otherwise
    the next file or socket that is opened would take its number, and what is printed would be written into that one.
    """
    for descriptor, mode in enumerate((os.O_RDWR, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", line_buffering=True)
    before = sys.__stdout__
    if sys.stdout is before:  # nobody else has replaced it
        file = io.BufferedWriter(_Output(1, "w", closefd=False))
        sys.stdout = (
            io.TextIOWrapper(file, "utf-8")
            if before is None
            else io.TextIOWrapper(file, before.encoding, before.errors, line_buffering=before.line_buffering)
        )


def finish_output() -> None:
    """Write what is still buffered. Raises UnwritableOutput."""
    sys.stdout.flush()


def abandon_output() -> None:
    """After UnwritableOutput: what is still buffered goes nowhere, also at the end of the interpreter."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
