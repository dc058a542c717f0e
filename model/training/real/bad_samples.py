"""Samples that cannot be read: skipped, counted, named; too many of them end the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from model.training.real.errors import TooManyBadSamplesError

MOST_BAD_SHARE = 0.01
_SHOWN = 5


@dataclass(frozen=True)
class BadSample:
    """name: of the annotation and its picture. reason: one sentence without its full stop."""

    name: str
    reason: str


@dataclass
class Tally:
    """The bad samples of one annotation file. total: all of its samples, bad ones too."""

    source: str
    total: int
    found: dict[str, str] = field(default_factory=dict)

    def add(self, samples: Iterable[BadSample]) -> None:
        """Count each name once; `check` judges."""
        for sample in samples:
            self.found.setdefault(sample.name, sample.reason)

    def check(self) -> None:
        """Raise `TooManyBadSamplesError` if more than 1 % of all samples are bad."""
        if len(self.found) <= MOST_BAD_SHARE * self.total:
            return
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(self.found.items())[:_SHOWN])
        more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        raise TooManyBadSamplesError(
            f"{len(self.found)} of the {self.total} samples in {self.source} cannot be read, more than "
            f"{MOST_BAD_SHARE:.0%}; mend or remove them: {shown}{more}."
        )

    def save(self, path: Path) -> None:
        """Write all of them as JSON, whole or not at all."""
        document = {"source": self.source, "samples": self.total, "bad": self.found}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)

    def report(self) -> str:
        """One line for the end of a run, with a line per bad sample behind it."""
        lines = [f"{len(self.found)} of {self.total} samples in {self.source} were bad and skipped."]
        return "\n".join([*lines, *(f"  {name}: {reason}" for name, reason in self.found.items())])
