"""Annotations that Label Studio reports to /webhook -> the folder of corrections.

Label Studio waits a second for the answer, often while its user waits too, and some installations answer one request at
a time: so an event is only checked and queued, and its image fetched and its lines written afterwards, one event after
another. What is lost when the service dies in between, `dynrefer corrections` brings from an export.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpcore2
from fastapi import FastAPI

from dynrefer.service.errors import InvalidRequestError, QueueFullError, ServiceError
from dynrefer.service.inputs.bodies import Buffer, Lease
from dynrefer.service.integrations.label_studio.corrections import Line, Origin, annotation_lines
from dynrefer.service.integrations.label_studio.corrections_folder import (
    CorrectionsFolder,
    FolderFullError,
    NoImageError,
)
from dynrefer.service.integrations.label_studio.images import Images
from dynrefer.service.integrations.label_studio.labeling import read_labeling
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000  # events; half of them of one key
MAX_ID = 64  # characters
RETRY_AFTER_S = 10.0
TRIES = 3  # of an event's image, in case Label Studio is busy
PAUSE_S = 2.0  # between them
PASSING = (
    QueueFullError,
    TimeoutError,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.RemoteProtocolError,  # Label Studio was stopped while it answered
)
CHANGES = {"ANNOTATION_CREATED": "annotation", "ANNOTATION_UPDATED": "annotation", "ANNOTATIONS_CREATED": "annotation"}
DELETIONS = {"ANNOTATIONS_DELETED": "annotations", "TASKS_DELETED": "tasks"}
TRAINING = (
    "The service does not train while it serves: collect corrections with the setting label_studio_corrections, and "
    "run 'dynrefer train --from-corrections FOLDER'."
)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen in the folder. image: as the task's data names it; None where nothing is to be fetched.

    project: its id. lines: in the place of all whose origin is covered.
    """

    covered: Callable[[Origin], bool]
    lines: tuple[Line, ...] = ()
    image: str | None = None
    project: str = ""


def changes_of(document: Mapping[str, Any], settings: Settings, long_texts: Mapping[str, bytes]) -> list[Change]:
    """What an event means; nothing for most. long_texts: see `inputs.json_text.Json`.

    Raises InvalidRequestError for one that makes no sense, and for a wish to train.
    """
    action = document.get("action")
    if action == "START_TRAINING":
        raise InvalidRequestError.at("/action", TRAINING)
    if not isinstance(action, str):
        raise InvalidRequestError.at("/action", "An event has an action, such as ANNOTATION_CREATED.")
    if action in DELETIONS:
        member = DELETIONS[action]
        gone = frozenset(_id_of(each, f"/{member}/id") for each in _listed(document, member))
        part = "annotation" if member == "annotations" else "task"
        return [Change(lambda origin: getattr(origin, part) in gone)]
    if action not in CHANGES:
        return []
    annotations, tasks = _listed(document, CHANGES[action]), _listed(document, "task")
    by_id = {_id_of(task, "/task/id"): task for task in tasks}
    project = document.get("project")
    labeling = read_labeling(project.get("label_config") if isinstance(project, dict) else None)
    found = []
    for place, annotation in enumerate(annotations):
        task = by_id.get(str(annotation.get("task"))) or (tasks[place] if len(tasks) == len(annotations) else None)
        data = task.get("data") if task else None
        if not task or not isinstance(data, dict):
            raise InvalidRequestError.at("/task", "An annotation comes with its task and the task's data.")
        _id_of(annotation, "/annotation/id")
        origin, lines = annotation_lines(annotation, str(task["id"]), labeling, settings.max_image_pixels)
        image = _image_of(data, labeling.variable, long_texts) if lines else None
        project_id = str(project.get("id", "")) if isinstance(project, dict) else ""
        found.append(Change(partial(_is_of_annotation, origin.annotation), tuple(lines), image, project_id))
    return found


def _image_of(data: Mapping[str, Any], variable: str, long_texts: Mapping[str, bytes]) -> str:
    image = data.get(variable)
    if not isinstance(image, str):
        raise InvalidRequestError.at("/task/data", "The task's data does not name its image.")
    return long_texts[image].decode("latin-1") if image in long_texts else image


def _is_of_annotation(annotation: str, origin: Origin) -> bool:
    return origin.annotation == annotation


def _id_of(given: Mapping[str, Any], at: str) -> str:
    """A number, as a rule. Lines are called after it, and so it is short and without a colon."""
    found = given.get("id")
    if isinstance(found, bool) or not isinstance(found, int | str) or len(text := str(found)) > MAX_ID or ":" in text:
        raise InvalidRequestError.at(at, "An id is a number, or a short text without a colon.")
    return text


def _listed(document: Mapping[str, Any], member: str) -> list[dict[str, Any]]:
    """One object, or several."""
    given = document.get(member)
    items: list[Any] = given if isinstance(given, list) else [given]
    if not items or not all(isinstance(each, dict) for each in items):
        raise InvalidRequestError.at(f"/{member}", f"The event needs '{member}': switch on 'Send payload'.")
    return items


@dataclass(frozen=True, slots=True)
class Event:
    """What waits to be written, and the part of the buffer that it holds meanwhile. num_bytes: of that, all but images
    that are fetched."""

    changes: Sequence[Change]
    caller: str | None
    lease: Lease
    num_bytes: int


class Collector:
    """Writes events into the folder, one after another, beside the service."""

    def __init__(self, folder: CorrectionsFolder, images: Images) -> None:
        self._folder, self._images = folder, images
        self._waiting: asyncio.Queue[Event] = asyncio.Queue()
        self._waiting_of: Counter[str | None] = Counter()

    def accept(self, changes: Sequence[Change], num_bytes: int, caller: str | None, buffer: Buffer) -> None:
        """Take an event. caller: the name of its key. Raises QueueFullError where too many wait, or too large ones."""
        if self._waiting.qsize() >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} corrections wait to be written; try again later.", RETRY_AFTER_S)
        if caller is not None and self._waiting_of[caller] >= MAX_WAITING // 2:
            detail = f"{MAX_WAITING // 2} corrections of this key wait to be written; try again later."
            raise QueueFullError(detail, RETRY_AFTER_S)
        lease = buffer.lease(caller)
        lease.add(num_bytes)
        self._waiting_of[caller] += 1
        self._waiting.put_nowait(Event(changes, caller, lease, num_bytes))

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """While the service runs; at its end what waits is still written, in what is left of shutdown_grace_s."""
        work = asyncio.create_task(self._work(app))
        try:
            yield
        finally:
            settings, engine = app.state.settings, app.state.engine
            try:
                async with asyncio.timeout(engine.grace_left(settings.shutdown_grace_s)):
                    await self._waiting.join()
            except TimeoutError:
                logger.error("%d corrections were not written before the end", self._waiting_of.total())
            work.cancel()

    async def _work(self, app: FastAPI) -> None:
        while True:
            event = await self._waiting.get()
            with event.lease:
                for change in event.changes:
                    await self._try_to_write(app, change, event)
            self._waiting_of[event.caller] -= 1
            if not self._waiting_of[event.caller]:
                del self._waiting_of[event.caller]
            self._waiting.task_done()

    async def _try_to_write(self, app: FastAPI, change: Change, event: Event) -> None:
        try:
            image = await self._image_of(app, change, event)
            await asyncio.to_thread(self._folder.replace, change.covered, change.lines, image)
        except (ServiceError, NoImageError, FolderFullError, OSError) as error:
            what = str(error)  # it quotes the task, and so is not written as it is
            logger.error("a correction was not collected; 'dynrefer corrections' can bring it later: %r", what)
        except Exception:
            logger.exception("a correction was not collected")  # and the next one is
        finally:
            event.lease.shrink_to(event.num_bytes)

    async def _image_of(self, app: FastAPI, change: Change, event: Event) -> bytes | None:
        if change.image is None:
            return None
        for _ in range(TRIES - 1):
            try:
                return await self._images.fetch(change.image, change.project, app.state.fetcher, event.lease)
            except ServiceError as error:
                if not _may_pass(error):
                    raise
                event.lease.shrink_to(event.num_bytes)
                await asyncio.sleep(PAUSE_S)
        return await self._images.fetch(change.image, change.project, app.state.fetcher, event.lease)


def _may_pass(error: BaseException | None) -> bool:
    """Whether another try may help: not of what is wrong with the image or its address. What was raised in place of
    another error keeps that as its context."""
    while error is not None and not isinstance(error, PASSING):
        error = error.__context__
    return error is not None
