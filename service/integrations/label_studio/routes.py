"""The paths of a machine learning backend, as Label Studio calls them below the address that its users enter."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from dynrefer.model import ResolveVocabulary
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import respond
from dynrefer.service.api.problems import ToldProblem
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.bodies import Buffer, Lease
from dynrefer.service.inputs.json_text import Json, parse_json
from dynrefer.service.integrations.label_studio.images import Images
from dynrefer.service.integrations.label_studio.labeling import read_labeling
from dynrefer.service.integrations.label_studio.predicting import model_version, predict
from dynrefer.service.integrations.label_studio.tasks import IMAGE_MEMBERS, PredictRequest, read_predict
from dynrefer.service.integrations.label_studio.webhooks import Change, Collector, changes_of
from dynrefer.service.settings import Settings

PREFIX = "/label-studio"
# What /setup says beside the labelling configuration, and the most characters of it.
SETUP_MEMBERS = {"project": 64, "hostname": 2_048, "access_token": 4_096}


class Posted:
    """A JSON object without an image. document: its members."""

    num_bytes = 0

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document


def read_posted(body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary) -> Posted:
    """Any object. Raises InvalidRequestError."""
    return Posted(_read_object(body, settings).document)


def _read_object(body: bytes, settings: Settings) -> Json:
    parsed = parse_json(body, settings.max_json_values, base64_members=IMAGE_MEMBERS)
    if not isinstance(parsed.document, dict):
        raise InvalidRequestError.at("", "An object is expected, as Label Studio sends it.")
    return parsed


@dataclass(frozen=True, slots=True)
class PostedEvent:
    """What follows from an event. num_bytes: about what that holds, counted as what was posted."""

    changes: list[Change]
    num_bytes: int


def read_event(
    body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> PostedEvent:
    """An event. Raises InvalidRequestError."""
    parsed = _read_object(body, settings)
    return PostedEvent(changes_of(parsed.document, settings, parsed.long_texts), len(body))


def write_problem(problem: ToldProblem) -> Response:
    """Label Studio shows its users the status; its log, and whoever looks closer, has the sentence."""
    document: dict[str, Any] = {"error": problem.detail, "request_id": problem.request_id}
    if problem.fields:
        document["errors"] = [{"pointer": each.pointer, "detail": each.detail} for each in problem.fields]
    return JSONResponse(document, problem.kind.status, dict(problem.headers))


def make_router(images: Images, collector: Collector | None) -> APIRouter:
    """The routes. collector: of what annotators correct; None where that is not collected."""
    router = APIRouter(prefix=PREFIX, tags=["label-studio"])

    @router.get("/health", summary="Label Studio: can the service predict?")
    async def health(engine: CurrentEngine) -> Response:
        """Needs the key, so that Label Studio says at once that it is missing."""
        engine.require_ready()
        return JSONResponse({"status": "UP", "model_version": model_version(engine.card)})

    @router.get("/versions", summary="Label Studio: the versions of the model")
    async def versions(engine: CurrentEngine) -> Response:
        """The one that is loaded."""
        engine.require_ready()
        return JSONResponse({"versions": [model_version(engine.card)]})

    @router.post("/setup", summary="Label Studio: a project begins to use the service")
    async def setup(
        request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
    ) -> Response:
        """Refuses a labelling configuration that nothing can be predicted for."""
        return await respond(request, engine, settings, buffer, read_posted, partial(_set_up, images, engine, settings))

    @router.post("/predict", summary="Label Studio: describe or find the regions of tasks")
    async def predictions(
        request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
    ) -> Response:
        """Of a task with regions, drawn just now or annotated, those are described, if the labelling configuration has
        a control that takes a description; else regions are found, and described."""
        return await respond(request, engine, settings, buffer, read_predict, partial(_predict, request, images))

    @router.post("/webhook", summary="Label Studio: something happened in a project")
    async def webhook(
        request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
    ) -> Response:
        """Annotations go into the folder of the setting label_studio_corrections."""
        return await respond(request, engine, settings, buffer, read_event, partial(_collect, collector, buffer))

    return router


async def _set_up(
    images: Images, engine: Engine, settings: Settings, posted: Posted, lease: Lease, context: RequestContext
) -> Response:
    engine.require_ready()
    document = posted.document
    read_labeling(document.get("schema"), settings.max_vocabulary_words)
    given = [_text_in(document, name, most) for name, most in SETUP_MEMBERS.items()]
    if images.label_studio is not None:
        images.label_studio.learn_token(context.caller, *given)
    return JSONResponse({"model_version": model_version(engine.card)})


def _text_in(document: dict[str, Any], name: str, most: int) -> str:
    """Empty where the member is not there, or no text. Raises InvalidRequestError."""
    text = document.get(name)
    if not isinstance(text, str):
        return ""
    if len(text) > most or not text.isascii() or not text.isprintable():
        raise InvalidRequestError.at(f"/{name}", f"'{name}' has at most {most} characters, all of them ASCII.")
    return text


async def _collect(
    collector: Collector | None, buffer: Buffer, posted: PostedEvent, lease: Lease, context: RequestContext
) -> Response:
    if not posted.changes:
        return JSONResponse({"status": "ignored", "detail": "Nothing follows from this event."})
    if collector is None:
        detail = "This service does not collect corrections; its setting label_studio_corrections names no folder."
        return JSONResponse({"status": "ignored", "detail": detail})
    lease.shrink_to(0)  # the event has one of its own, which outlives the request
    collector.accept(posted.changes, posted.num_bytes, context.caller, buffer)
    return JSONResponse({"status": "accepted"}, 202)


async def _predict(
    request: Request, images: Images, parsed: PredictRequest, lease: Lease, context: RequestContext
) -> Response:
    return JSONResponse(await predict(request, images, parsed, lease, context))
