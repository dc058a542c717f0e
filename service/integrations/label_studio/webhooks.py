"""Annotations that Label Studio reports to /webhook -> the folder of corrections.

Label Studio waits a second for the answer, often while its user waits too, and some installations answer one request at
a time: so an event is only checked and queued, and its image fetched and its lines written afterwards, one event after
another. What is lost when the service dies in between, `dynrefer corrections` brings from an export.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI

from dynrefer.service.errors import InvalidRequestError, QueueFullError, ServiceError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.integrations.label_studio.corrections import Line, Origin, annotation_lines
from dynrefer.service.integrations.label_studio.corrections_folder import CorrectionsFolder, NoImageError
from dynrefer.service.integrations.label_studio.images import Images
from dynrefer.service.integrations.label_studio.labeling import read_labeling
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000  # events
MAX_ID = 64  # characters
TRIES = 3  # of an event's image, in case Label Studio is busy
PAUSE_S = 2.0  # between them
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


class Collector:
    """Writes events into the folder, one after another, beside the service."""

    def __init__(self, folder: CorrectionsFolder, images: Images) -> None:
        self._folder, self._images = folder, images
        self._waiting: asyncio.Queue[Change] = asyncio.Queue(MAX_WAITING)

    def accept(self, changes: list[Change]) -> None:
        """Take an event. Raises QueueFullError where too many wait."""
        if self._waiting.qsize() + len(changes) > MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} corrections wait to be written; try again later.", 10.0)
        for change in changes:
            self._waiting.put_nowait(change)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """While the service runs; at its end what waits is still written, within shutdown_grace_s."""
        work = asyncio.create_task(self._work(app))
        try:
            yield
        finally:
            settings: Settings = app.state.settings
            try:
                async with asyncio.timeout(settings.shutdown_grace_s):
                    await self._waiting.join()
            except TimeoutError:
                logger.error("%d corrections were not written before the end", self._waiting.qsize())
            work.cancel()

    async def _work(self, app: FastAPI) -> None:
        while True:
            change = await self._waiting.get()
            try:
                await self._write(app, change)
            except (ServiceError, NoImageError, OSError) as error:
                what = str(error)  # it quotes the task, and so is not written as it is
                logger.error("a correction was not collected; 'dynrefer corrections' can bring it later: %r", what)
            except Exception:
                logger.exception("a correction was not collected")  # and the next one is
            finally:
                self._waiting.task_done()

    async def _write(self, app: FastAPI, change: Change) -> None:
        buffer: Buffer = app.state.buffer
        with buffer.lease() as lease:
            image = None
            for left in reversed(range(TRIES if change.image is not None else 0)):
                try:
                    image = await self._images.fetch(str(change.image), change.project, app.state.fetcher, lease)
                    break
                except ServiceError:
                    lease.shrink_to(0)
                    if not left:
                        raise
                    await asyncio.sleep(PAUSE_S)
            await asyncio.to_thread(self._folder.replace, change.covered, change.lines, image)
