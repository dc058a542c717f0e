"""One call of /predict: each task has its own image and may fail alone; all share a deadline."""

import asyncio
import logging
import time
from functools import partial
from typing import Any

from fastapi import Request

from dynrefer.model import ImageError, ModelCard, QueryError, ResolveVocabulary
from dynrefer.service.api.answering import describe_regions, find_regions
from dynrefer.service.api.problems import told
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.serving import Serving
from dynrefer.service.errors import (
    DeadlineExceeded,
    FieldError,
    InvalidRequestError,
    QueueFullError,
    ServiceError,
)
from dynrefer.service.inputs.bodies import Buffer, Lease
from dynrefer.service.inputs.detection import ParsedDetection, read_detection
from dynrefer.service.inputs.forms import PostedForm
from dynrefer.service.inputs.parsing import ParsedRequest, read_single
from dynrefer.service.integrations.label_studio.drawn import Drawn, drawn_regions
from dynrefer.service.integrations.label_studio.images import ImageNotFetched, Images
from dynrefer.service.integrations.label_studio.labeling import Labeling
from dynrefer.service.integrations.label_studio.questions import (
    document_about,
    document_about_image,
    document_that_finds,
)
from dynrefer.service.integrations.label_studio.results import (
    Prediction,
    described_results,
    found_results,
    image_results,
)
from dynrefer.service.integrations.label_studio.tasks import LabelTask, PredictRequest
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

AT_ONCE = 2  # tasks of a call: one is prepared while another is on the device, and a key's part of the queue holds both
LEFT_TO_ANSWER = 0.05  # of the deadline: what is ready by then is answered, and not lost with what is not
ERRORS = (ServiceError, QueryError, ImageError)

Failed = ServiceError | QueryError | ImageError


def model_version(card: ModelCard) -> str:
    """By which Label Studio knows whose predictions it has."""
    return f"{card.name}-{card.revision}" if card.revision else card.name


async def predict(
    request: Request, images: Images, parsed: PredictRequest, lease: Lease, context: RequestContext
) -> dict[str, Any]:
    """The answer about all tasks, by one model, whichever serves by its end. In the place of a task that failed stands
    its error, without the member `result`: Label Studio then keeps no prediction, so that asking again asks for that
    task alone.

    Raises the first task's error where none succeeded, and UnavailableError.
    """
    engine: Engine = request.app.state.engine
    with engine.model() as model:
        found = await _all_predicted(request, images, parsed, context, model)
        version = model_version(model.card)
    if not any(isinstance(each, Prediction) for each in found):
        raise next(each for each in found if not isinstance(each, Prediction))
    written = [
        each.document(version) if isinstance(each, Prediction) else _failed(task, each, parsed.project, context)
        for task, each in zip(parsed.tasks, found, strict=True)
    ]
    return {"results": written, "model_version": version}


async def _all_predicted(
    request: Request, images: Images, parsed: PredictRequest, context: RequestContext, model: Serving
) -> list[Prediction | Failed]:
    """Of each task, in its place, what came of it before the deadline."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(task: LabelTask | InvalidRequestError) -> Prediction | Failed:
        if isinstance(task, InvalidRequestError):
            return task
        async with room:
            try:
                return await _patiently(request, images, parsed, task, context, model)
            except ERRORS as error:
                return error

    work = [asyncio.ensure_future(one(task)) for task in parsed.tasks]
    try:
        left_s = context.deadline - time.monotonic() - LEFT_TO_ANSWER * context.timeout_s
        await asyncio.wait(work, timeout=max(0.0, left_s))
        late = DeadlineExceeded(f"The task's turn did not come within {context.timeout_s:g} seconds; ask again.")
        return [each.result() if each.done() else late for each in work]
    finally:
        for each in work:
            each.cancel()


def _failed(
    task: LabelTask | InvalidRequestError, error: Failed, project: str, context: RequestContext
) -> dict[str, Any]:
    sentence = told(error, context.id).detail
    name = task.name if isinstance(task, LabelTask) else "?"
    logger.warning("no prediction for task %r of project %r: %r", name, project, sentence)  # it quotes the task
    return {"error": sentence}


async def _patiently(
    request: Request,
    images: Images,
    parsed: PredictRequest,
    task: LabelTask,
    context: RequestContext,
    model: Serving,
) -> Prediction:
    """Where the queue is full and there are other tasks to wait for, wait and try again, until the deadline."""
    while True:
        try:
            return await _predicted(request, images, parsed, task, context, model)
        except QueueFullError as error:
            if len(parsed.tasks) == 1:
                raise
            await asyncio.sleep(error.retry_after_s)


async def _predicted(
    request: Request,
    images: Images,
    parsed: PredictRequest,
    task: LabelTask,
    context: RequestContext,
    model: Serving,
) -> Prediction:
    state = request.app.state
    buffer: Buffer = state.buffer
    engine: Engine = state.engine
    labeling = parsed.labeling
    with buffer.lease(context.caller) as part:  # of this image alone: it is given back before the next one comes
        try:
            image = await images.fetch(task.image, parsed.project, state.fetcher, part)
        except ImageNotFetched as error:
            raise InvalidRequestError(error.detail, [FieldError("/tasks", error.detail)]) from None
        ask = partial(_asked, task, labeling, image, state.settings, state.vocabularies.resolve)
        drawn, asked = await engine.run_in_cpu_pool(ask)
        del image, ask
        if isinstance(asked, ParsedDetection):
            write = partial(found_results, labeling=labeling)
            return (await find_regions(request, asked, part, context, write, model))[0]
        if drawn:
            said = task.results if task.just_drawn else ()
            about = partial(described_results, drawn=drawn, labeling=labeling, said=said)
        else:
            about = partial(image_results, labeling=labeling)
        return (await describe_regions(request, asked, part, context, about, model))[0]


def _asked(
    task: LabelTask, labeling: Labeling, image: bytes, settings: Settings, resolve: ResolveVocabulary
) -> tuple[list[Drawn], ParsedDetection | ParsedRequest]:
    """The regions that were drawn, if those are to be described, and the request about the image. CPU work.

    Without a control that draws, the image as a whole is described; without one that takes a description, regions are
    found, whatever is drawn.
    """
    if not labeling.shapes:
        posted = PostedForm(document_about_image(labeling, settings), files=[image], holder="The image")
        return [], read_single(posted, settings, resolve)
    drawn = _drawn(task, labeling, settings) if labeling.of_regions else []
    if drawn:
        posted = PostedForm(document_about(drawn, labeling, settings), files=[image], holder="The image")
        return drawn, read_single(posted, settings, resolve)
    posted = PostedForm(document_that_finds(labeling, settings), files=[image], holder="The image")
    return [], read_detection(posted, settings, resolve)


def _drawn(task: LabelTask, labeling: Labeling, settings: Settings) -> list[Drawn]:
    """Raises InvalidRequestError with pointers into the request."""
    try:
        return drawn_regions(list(task.results), labeling, settings.max_image_pixels)
    except InvalidRequestError as error:
        pointed = [FieldError(f"{task.at}{each.pointer}", each.detail) for each in error.fields]
        raise InvalidRequestError(error.detail, pointed) from None
