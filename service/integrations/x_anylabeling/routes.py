"""The paths of X-AnyLabeling's remote server, below /x-anylabeling because /v1/models is taken."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers

from dynrefer.model import ModelCard
from dynrefer.service.api.answering import answer_parsed
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import respond
from dynrefer.service.api.problems import ToldProblem
from dynrefer.service.api.surfaces import Surface
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import NotFoundError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.integrations.x_anylabeling.offer import described
from dynrefer.service.integrations.x_anylabeling.prediction import Prediction, read_prediction, request_schema
from dynrefer.service.integrations.x_anylabeling.shapes import written_descriptions, written_findings
from dynrefer.service.settings import Settings

ROOT = "/x-anylabeling"
HEALTH = f"{ROOT}/health"
# Where a field of ours stands in what the program sent.
THEIR_PLACES = {"/regions": "/params/marks", "/names": "/params/text_prompt", "/phrase": "/params/text_prompt"}

router = APIRouter(prefix=ROOT, tags=["x-anylabeling"])


def integration(settings: Settings) -> Integration:
    """The integration `x-anylabeling`."""
    surface = Surface("x-anylabeling", (f"{ROOT}/",), write_problem, frozenset({HEALTH}), key_of)
    return Integration(surface, router)


def key_of(headers: Headers) -> str | None:
    """The program's only way to send one."""
    return headers.get("token")


def write_problem(problem: ToldProblem) -> Response:
    """An error as X-AnyLabeling's server writes it, but with the HTTP status, which is all that the program shows of
    one: with its own server's 200 it would take the shapes away and say nothing."""
    detail = problem.detail
    if problem.kind.status == 401:
        detail = "Give a valid key as the API key in X-AnyLabeling's settings of the remote server."
    details: dict[str, Any] = {"request_id": problem.request_id}
    if problem.fields:
        details["errors"] = [{"pointer": _theirs(each.pointer), "detail": each.detail} for each in problem.fields]
    error = {"code": problem.kind.slug.upper().replace("-", "_"), "message": detail, "details": details}
    return JSONResponse({"success": False, "error": error}, problem.kind.status, dict(problem.headers))


def _theirs(pointer: str) -> str:
    """Where in the program's request a field is that is at fault in ours."""
    for ours, theirs in THEIR_PLACES.items():
        if pointer.startswith(f"{ours}/"):
            place = pointer.removeprefix(ours).split("/")[1]
            return f"{theirs}/{place}" if ours == "/regions" else theirs
    return THEIR_PLACES.get(pointer, pointer)


@router.get("/health", summary="X-AnyLabeling: can the service predict?")
async def health(engine: CurrentEngine) -> dict[str, Any]:
    """As /readyz."""
    engine.require_ready()
    return {"status": "healthy", "models_loaded": 1, "timestamp": datetime.now(UTC).isoformat()}


@router.get("/v1/models", summary="X-AnyLabeling: the model, its tasks and the controls of each")
async def models(engine: CurrentEngine) -> dict[str, Any]:
    """What the program fills its lists with."""
    return {"success": True, "data": {engine.card.name: described(engine.card)}}


@router.get("/v1/models/{model_id}/info", summary="X-AnyLabeling: one model")
async def model_info(model_id: str, engine: CurrentEngine) -> dict[str, Any]:
    """As in the list."""
    if model_id != engine.card.name:
        raise NotFoundError(f"There is no model '{printable(model_id)}'; this service has '{engine.card.name}'.")
    return {"success": True, "data": {"model_id": model_id, **described(engine.card)}}


@router.post(
    "/v1/predict",
    summary="X-AnyLabeling: find, outline or describe",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": request_schema()}}}},
)
async def predict(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """One task on one image, as the window's controls are set."""
    card = engine.card
    read, answer = partial(read_prediction, card), partial(_answer, request, engine, card)
    return await respond(request, engine, settings, buffer, read, answer)


async def _answer(
    request: Request, engine: Engine, card: ModelCard, prediction: Prediction, lease: Lease, context: RequestContext
) -> Response:
    """card: of the model whose tasks the request was read by."""
    with engine.model() as held:
        if (held.card.name, held.card.revision) != (card.name, card.revision):
            detail = f"Another model than '{card.name}' serves since this request began; load the list of models again."
            raise NotFoundError(detail)
        found = isinstance(prediction.parsed, ParsedDetection)
        write = partial(written_findings if found else written_descriptions, prediction)
        document, _ = await answer_parsed(request, prediction.parsed, lease, context, write, held)
    return Response(document, media_type="application/json")
