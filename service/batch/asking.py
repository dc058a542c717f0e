"""Items -> what the engine is asked, and its results -> the line that answers an item.

A question is read as POST /v1/describe reads it, so every field means the same here, and an answer has the members of
the service's, but for those that differ from run to run: the request's id and the timings.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dynrefer.model import (
    AlphaMask,
    FindQuery,
    ModelCard,
    QueryError,
    ResolveVocabulary,
    Translator,
    decode_image,
    decode_with_alpha,
)
from dynrefer.service.api.detections import detect_answer
from dynrefer.service.api.problems import is_of_region
from dynrefer.service.api.responses import answer, queries, region_query
from dynrefer.service.api.schemas import DescribeFields
from dynrefer.service.batch.items import Item, Line
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.detecting import DetectInput
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.parsing import ParsedRequest, checked_fields
from dynrefer.service.settings import Settings
from dynrefer.service.workers.image_task import DescribeInput

REGIONS_AT_ONCE = 64  # of one image: their views are in memory together
_NO_REGION = {"regions": [{"box": [0, 0, 1, 1]}]}  # stands for regions where only the rest of a question is read
# What an answer leaves out, so that the same input gives the same bytes.
_DIFFERS: dict[str, Any] = {"id": True, "model": True, "timings_ms": True, "regions": {"__all__": {"timings_ms"}}}
_REGION_POINTER = re.compile(r"/regions/([0-9]+)")


@dataclass(frozen=True)
class Question:
    """What is asked of every image, beside the regions that its item brings.

    fields: of POST /v1/describe, without `regions`; those of an item win. find: what is looked for where items bring no
    regions; None: they do. describe_found: whether what is found is described too.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    find: FindQuery | None = None
    describe_found: bool = True


class Asker:
    """Puts items to an engine. resolve: the name of a vocabulary -> it."""

    def __init__(self, engine: Engine, settings: Settings, question: Question, resolve: ResolveVocabulary) -> None:
        self._engine = engine
        self._settings = settings
        self._question = question
        self._resolve = resolve
        self._common = read_question(question, settings, resolve)
        self._at_once = min(REGIONS_AT_ONCE, settings.max_regions)

    async def prepare(self) -> None:
        """Let the model work out what the words of the question mean, once it is loaded."""
        if self._common.vocabulary is not None:
            await self._engine.understand(self._common.vocabulary)

    async def answer(self, item: Item) -> Line:
        """An item's answer: `image` and `regions`, and what else the service would say of the image.

        Raises OSError, ImageError, QueryError or ServiceError where there is none.
        """
        if item.flaw:
            raise InvalidRequestError(item.flaw)
        if isinstance(item.image, bytes):
            image = item.image
        else:
            image = await asyncio.to_thread(item.image.read_bytes)
        if self._question.find is not None:
            return await self._find(image, self._question.find)
        return await self._describe(image, item)

    async def _describe(self, image: bytes, item: Item) -> Line:
        found: Line = {}
        for first, request in _parts(item, self._at_once):
            fields, errors = await self._engine.run_in_cpu_pool(partial(self._read, request))
            parsed = ParsedRequest(fields, b"", region_errors=errors)
            if fields.vocabulary is not None and fields.vocabulary is not self._common.vocabulary:
                await self._engine.understand(fields.vocabulary)
            result = await self._engine.describe(_input(fields, image, self._settings.max_image_pixels), _context())
            _refuse_what_no_region_is_to_blame_for(result)
            write = partial(_described, parsed, result, self._engine.card)
            _join(found, await self._engine.run_in_cpu_pool(write), first)
        for region, label in zip(found["regions"], item.labels, strict=False):
            if label is not None:
                region["label"] = label
        return found

    def _read(self, request: Mapping[str, Any]) -> tuple[DescribeFields, Any]:
        """A part's fields, and the errors of its regions. CPU work."""
        own = {**self._question.fields, **request, "on_region_error": "report"}
        common = "vocabulary" not in request
        if common:
            own.pop("vocabulary", None)  # read once for all
        fields, errors = checked_fields(DescribeFields, own, self._settings, self._resolve, str.encode)
        if common:
            fields = fields.model_copy(update={"vocabulary": self._common.vocabulary})
        return fields, errors

    async def _find(self, image: bytes, query: FindQuery) -> Line:
        common = self._common
        describe = region_query(common) if self._question.describe_found else None
        decode = partial(decode_image, max_pixels=self._settings.max_image_pixels)
        result = await self._engine.detect(DetectInput(image, decode, query, describe), _context())
        translator = None if describe is None else _translator(common, self._engine.card)
        write = partial(detect_answer, "", "", common.orientation, result, 0.0, translator)
        document = await self._engine.run_in_cpu_pool(write)
        return document.model_dump(mode="json", exclude=_DIFFERS, exclude_none=True)


def read_question(question: Question, settings: Settings, resolve: ResolveVocabulary) -> DescribeFields:
    """The fields that all items share. Raises InvalidRequestError where one cannot be honoured."""
    document = {**question.fields, **_NO_REGION}
    return checked_fields(DescribeFields, document, settings, resolve, str.encode)[0]


def _parts(item: Item, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The item's request in parts of so many regions at most, each with the place of its first region."""
    regions = item.request.get("regions")
    if not isinstance(regions, list) or len(regions) <= most:
        yield 0, dict(item.request)
        return
    for first in range(0, len(regions), most):
        part = [_named(region, first + place) for place, region in enumerate(regions[first : first + most])]
        yield first, {**item.request, "regions": part}


def _named(region: Any, place: int) -> Any:
    """A region under the id that it would have in the whole request."""
    return {"id": str(place), **region} if isinstance(region, dict) and place >= 0 else region


def _input(fields: DescribeFields, image: bytes, max_pixels: int) -> DescribeInput:
    shown = any(isinstance(region.mask, AlphaMask) for region in fields.regions)
    return DescribeInput(
        num_regions=len(fields.regions),
        image=image,
        decode=partial(decode_with_alpha if shown else decode_image, max_pixels=max_pixels),
        queries=queries(fields),
        report_errors=True,
        prompts=sum(region.box is None for region in fields.regions),
        pointed=tuple(place for place, region in enumerate(fields.regions) if region.points),
    )


def _context() -> RequestContext:
    """No client waits: there is no deadline."""
    return RequestContext("batch", None, math.inf, math.inf, time.perf_counter())


def _refuse_what_no_region_is_to_blame_for(result: DescribeResult) -> None:
    for found in result.regions:
        if isinstance(found, QueryError) and not is_of_region(found):
            raise found


def _translator(fields: DescribeFields, card: ModelCard) -> Translator:
    languages: Sequence[str] = () if fields.language is None else (fields.language,)
    return Translator(tuple(languages), fields.vocabulary, card.translations, fields.task)


def _described(parsed: ParsedRequest, result: DescribeResult, card: ModelCard) -> Line:
    """CPU work."""
    document = answer("", "", parsed, result, 0.0, _translator(parsed.fields, card))
    return document.model_dump(mode="json", exclude=_DIFFERS, exclude_none=True)


def _join(found: Line, part: Line, first: int) -> None:
    """Add a part's answer to those before it."""
    if not found:
        found.update(part)
        return
    for region in part["regions"]:
        for flaw in region.get("error", {}).get("errors", ()):
            flaw["pointer"] = _moved(flaw["pointer"], first)
    found["regions"] += part["regions"]


def _moved(pointer: str, by: int) -> str:
    return _REGION_POINTER.sub(lambda match: f"/regions/{int(match[1]) + by}", pointer, count=1)
