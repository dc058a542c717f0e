"""Samples that cannot be read: skipped, counted, named; too many of them end the run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.errors import TooManyBadSamplesError

MOST_BAD_SHARE = 0.01
_SHOWN = 5


@dataclass(frozen=True)
class BadSample:
    """name: of the annotation and its picture, no other sample's. reason: one sentence without its full stop."""

    name: str
    reason: str


@dataclass
class BadSampleReport:
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

    def as_json(self) -> dict[str, Any]:
        """The same as plain values, the file by its absolute path."""
        return {"source": str(Path(self.source).absolute()), "samples": self.total, "bad": self.found}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Add what `as_json` gave at a checkpoint, unless that was another file: a resumed run may change --val."""
        now = self.as_json()
        if all(kept.get(name) == now[name] for name in ("source", "samples")):
            self.found.update(kept["bad"])

    def report(self) -> str:
        """One line for the end of a run, with a line per bad sample behind it."""
        lines = [f"{len(self.found)} of {self.total} samples in {self.source} were bad and skipped."]
        return "\n".join([*lines, *(f"  {name}: {reason}" for name, reason in self.found.items())])


def share(tallies: Sequence[BadSampleReport]) -> None:
    """Tell all processes of the bad samples that any has met, so that all stop together."""
    from accelerate.utils import gather_object

    for tally in tallies:
        found = [BadSample(name, reason) for name, reason in tally.found.items()]
        tally.add(gather_object(found))
        tally.check()


def save(tallies: Sequence[BadSampleReport], path: Path) -> None:
    """Write all of them as a JSON list, whole or not at all; makes the folder. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = [tally.as_json() for tally in tallies]
    replace_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def named_in(path: Path) -> Iterator[list[BadSampleReport]]:
    """The tallies that are put into the list are written to `path` if one of them ends the run; its sentence says so.

    Raises `TooManyBadSamplesError`.
    """
    tallies: list[BadSampleReport] = []
    try:
        yield tallies
    except TooManyBadSamplesError as error:
        try:
            save(tallies, path)
            where = f"all in {path}"
        except OSError as failure:
            where = f"{path} cannot be written: {failure.strerror}"
        raise TooManyBadSamplesError(f"{str(error).removesuffix('.')}; {where}.") from error
