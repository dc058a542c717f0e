"""What a run says of itself on standard error: regions a second and the time that is left."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 30.0  # where nobody watches: in a log file


class Progress:
    """total: regions to come, or images where regions are to be found; unit: which of the two. done: before this run.

    A bar on a terminal, else a line now and then; nothing where `quiet`.
    """

    def __init__(self, total: int, unit: str, *, quiet: bool = False) -> None:
        self._unit = unit
        self._total = total
        self._began = self._said = time.monotonic()
        self._failed = 0
        self.done = 0
        self._quiet = quiet
        watched = sys.stderr.isatty() and not quiet
        self._watched = watched
        self._bar: tqdm[Any] | None = None

    def begin(self, ago_s: float = 0.0) -> None:
        """The model is there, since so many seconds: the time counts from then on."""
        self._said = time.monotonic()
        self._began = self._said - ago_s
        if self._watched:
            self._bar = tqdm(total=self._total, unit=f" {self._unit}", file=sys.stderr, smoothing=0.05)

    def advance(self, by: int, failed: int) -> None:
        """An image was answered, or failed. by: in the unit."""
        self.done += by
        self._failed += failed
        if self._bar is not None:
            self._bar.update(by)
            if failed:
                self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        elif not self._quiet and time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stderr)
        else:
            print(sentence, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def _line(self) -> str:
        meter = tqdm.format_meter(self.done, self._total, self.seconds, unit=f" {self._unit}", ncols=0)
        return meter + (f", {self._failed} failed" if self._failed else "")


def duration(seconds: float) -> str:
    """In words: 3 h 05 min, 2 min 07 s, 12.3 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def counted(number: int, what: str) -> str:
    """1 image, 2,000 images."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
