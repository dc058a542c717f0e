"""What a run is asked to do, what of it is left to do, and what its answers depend on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dynrefer.model import NamedVocabularies
from dynrefer.service.batch.answers import Order
from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.items import Digest, ItemSource
from dynrefer.service.batch.journal import Journal
from dynrefer.service.settings import Settings


@dataclass(frozen=True)
class Job:
    """What the command line asks for.

    given: IN. out, also: files to write; the journal belongs to `out`. boxes, images, format: see `open_source`.
    vocabularies: names -> words, for the question. retry_failed: whether images and regions that failed are tried
    again. overwrite: whether files may be replaced that no earlier run wrote. quiet: no progress.
    """

    given: Path
    out: Path
    question: Question
    settings: Settings
    also: tuple[Path, ...] = ()
    boxes: Path | None = None
    images: Path | None = None
    format: str | None = None
    vocabularies: NamedVocabularies | None = None
    retry_failed: bool = False
    overwrite: bool = False
    quiet: bool = False

    def for_other_machines(self) -> Job:
        """With paths that are the same from any working directory."""
        return replace(
            self,
            given=self.given.absolute(),
            boxes=None if self.boxes is None else self.boxes.absolute(),
            images=None if self.images is None else self.images.absolute(),
        )


def asked_settings(job: Job) -> dict[str, Any]:
    """What the answers depend on, besides the items and the model's revision; as JSON has it."""
    question, find = job.question, job.question.find
    found: dict[str, Any] = {"model": job.settings.model, "find": find is not None, **question.fields}
    if find is not None:
        found |= {f"find_{name}": value for name, value in asdict(find).items()}
        found |= {"finder": job.settings.finder, "describe": question.describe_found}
    return _as_json(found)


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value, default=str))
    return found


@dataclass
class Plan:
    """What is there to do. order: all items. items_left, regions_left: those without an answer."""

    order: Order
    items_left: int = 0
    regions_left: int = 0

    @classmethod
    def of(cls, source: ItemSource, journal: Journal, *, retry_failed: bool) -> Plan:
        """By one pass over the input."""
        plan, left = cls(Order()), Left(journal, retry_failed=retry_failed)
        for item in source.items():
            digest = item.digest
            plan.order.append(digest)
            if left(digest):
                plan.items_left += 1
                plan.regions_left += item.num_regions
        return plan


class Left:
    """Which items are to be asked. Called once for each, in the order of the input: the second of two that are the same
    has the answer of the first.

    since: where in the journal this run began, in bytes: what it has answered is not asked again, failed or not.
    """

    def __init__(self, journal: Journal, *, retry_failed: bool, since: int | None = None) -> None:
        self._journal = journal
        self._retry_failed = retry_failed
        self._since = since
        self._begun: set[Digest] = set()

    def __call__(self, digest: Digest) -> bool:
        entry = self._journal.get(digest)
        old = entry is not None and (self._since is None or entry.offset < self._since)
        wanted = entry is None or (self._retry_failed and old and entry.failed > 0)
        if not wanted or digest in self._begun:
            return False
        self._begun.add(digest)
        return True
