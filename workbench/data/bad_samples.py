"""Bad samples: skipped, counted and named; more than 1 % of a file's samples end the run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.errors import TooManyBadSamplesError

MAX_BAD_PROPORTION = 0.01
_SHOWN = 5  # in the message


@dataclass(frozen=True)
class BadSample:
    """name: of the annotation and its image; no other sample has it. reason: a clause without its full stop."""

    name: str
    reason: str


@dataclass
class BadSampleReport:
    """The bad samples of one annotation file. total: all of its samples, bad ones too. found: name -> reason.

    stored: paths of the images, among those read so far, whose boxes are those of the image as it is stored.
    """

    source: str
    total: int
    found: dict[str, str] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)

    def add(self, samples: Iterable[BadSample]) -> None:
        """Count each name once. Whether there are too many is for `check`."""
        for sample in samples:
            self.found.setdefault(sample.name, sample.reason)

    def joined(self, samples: Iterable[BadSample]) -> BadSampleReport:
        """A checked copy with more of them. Raises `TooManyBadSamplesError`."""
        copy = replace(self, found=dict(self.found))
        copy.add(samples)
        copy.check()
        return copy

    def check(self) -> None:
        """Raise `TooManyBadSamplesError` if more than 1 % of all samples are bad."""
        if len(self.found) <= MAX_BAD_PROPORTION * self.total:
            return
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(self.found.items())[:_SHOWN])
        more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        raise TooManyBadSamplesError(
            f"{len(self.found)} of the {self.total} samples in {self.source} cannot be read, more than "
            f"{MAX_BAD_PROPORTION:.0%}; correct or remove them: {shown}{more}."
        )

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, the file by its absolute path."""
        return {
            "source": str(Path(self.source).absolute()),
            "samples": self.total,
            "bad": self.found,
            "read_as_stored": sorted(self.stored),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Add what `as_json` gave at a checkpoint, unless that was another file: a resumed run may change --val."""
        now = self.as_json()
        if all(saved.get(name) == now[name] for name in ("source", "samples")):
            self.found.update(saved["bad"])
            self.stored.update(saved.get("read_as_stored", ()))

    def summary(self) -> str:
        """One line, followed by one line per bad sample."""
        lines = [f"{len(self.found)} of {self.total} samples in {self.source} were bad and skipped."]
        return "\n".join([*lines, *(f"  {name}: {reason}" for name, reason in self.found.items())])


def save_reports(reports: Sequence[BadSampleReport], path: Path) -> None:
    """Write the reports as a JSON list, whole or not at all; makes the folder. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = [report.as_json() for report in reports]
    replace_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def saving_reports(path: Path) -> Iterator[list[BadSampleReport]]:
    """A list for the reports of a run. If one of them ends it, all are written to `path`, and the message says so.

    Raises `TooManyBadSamplesError`.
    """
    reports: list[BadSampleReport] = []
    try:
        yield reports
    except TooManyBadSamplesError as error:
        try:
            save_reports(reports, path)
            where = f"all in {path}"
        except OSError as failure:
            where = f"{path} cannot be written: {failure.strerror}"
        raise TooManyBadSamplesError(f"{str(error).removesuffix('.')}; {where}.") from error
