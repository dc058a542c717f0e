"""The routes below /v2. A model is also there under its version, which is its revision."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from dynrefer.model import ModelCard
from dynrefer.service.api.answering import answer_parsed
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.openapi import API_VERSION
from dynrefer.service.api.posting import respond
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import NotFoundError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.kserve.answers import HEADER_LENGTH, written
from dynrefer.service.integrations.kserve.requests import DESCRIBE, DETECT, Inference, check_headers, read_inference
from dynrefer.service.integrations.kserve.tensors import ANSWER, BYTES, IMAGE, REQUEST

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
VERSION = "/versions/{version}"

router = APIRouter(tags=["kserve"])


@router.get("/v2", summary="KServe: the server")
async def server() -> dict[str, Any]:
    """Its name, the version of its contract, and the extensions of the protocol that it knows."""
    return {"name": "dynrefer", "version": API_VERSION, "extensions": ["binary_tensor_data"]}


@router.get("/v2/health/live", summary="KServe: is the process alive?")
async def live() -> dict[str, bool]:
    """As /livez."""
    return {"live": True}


@router.get("/v2/health/ready", summary="KServe: can the service describe regions?")
async def ready(engine: CurrentEngine) -> dict[str, bool]:
    """As /readyz."""
    engine.require_ready()
    return {"ready": True}


@router.get("/v2/models/{model}", summary="KServe: a model's inputs and outputs")
@router.get("/v2/models/{model}" + VERSION, include_in_schema=False)
async def metadata(model: str, engine: CurrentEngine, version: str | None = None) -> dict[str, Any]:
    """-1 is a number of images; one answer comes back for each."""
    card = _checked(model, version, engine.card)
    images = [-1] if model == DESCRIBE else [1]
    return {
        "name": model,
        "versions": [card.revision],
        "platform": "dynrefer",
        "inputs": [
            {"name": IMAGE, "datatype": BYTES, "shape": images},
            {"name": REQUEST, "datatype": BYTES, "shape": [1]},
        ],
        "outputs": [{"name": ANSWER, "datatype": BYTES, "shape": images}],
    }


@router.get("/v2/models/{model}/ready", summary="KServe: can a model be asked?")
@router.get("/v2/models/{model}" + VERSION + "/ready", include_in_schema=False)
async def model_ready(model: str, engine: CurrentEngine, version: str | None = None) -> dict[str, Any]:
    """As /readyz."""
    engine.require_ready()
    _checked(model, version, engine.card)
    return {"name": model, "ready": True}


@router.post("/v2/models/{model}/infer", summary="KServe: describe or find regions")
@router.post("/v2/models/{model}" + VERSION + "/infer", include_in_schema=False)
async def infer(
    model: str,
    request: Request,
    engine: CurrentEngine,
    settings: CurrentSettings,
    buffer: CurrentBuffer,
    version: str | None = None,
) -> Response:
    """The models `describe` and `detect`. Inputs, of datatype BYTES: `image`, the file of an image or of several, in
    JSON as Base64, and `request`, the JSON of /v1/describe or /v1/detect without its image, which may be left out. The
    output `answer` has the JSON of an answer for each image.
    """
    _checked(model, version, engine.card)
    read = partial(read_inference, model, request.headers.get(HEADER_LENGTH))
    answer = partial(_answer, request, engine, version)
    return await respond(request, engine, settings, buffer, read, answer, check_headers)


async def _answer(
    request: Request, engine: Engine, version: str | None, inference: Inference, lease: Lease, context: RequestContext
) -> Response:
    with engine.model() as held:
        # Once more: while the body came, another model may have taken over.
        card = _checked(inference.model, version, held.card)
        write = partial(written, inference, card.revision)
        response, translator = await answer_parsed(request, inference.parsed, lease, context, write, held)
    return response.response(translator)


def _checked(model: str, version: str | None, card: ModelCard) -> ModelCard:
    """The card. Raises NotFoundError where the model, in that version, is not there."""
    if model not in (DESCRIBE, DETECT):
        raise NotFoundError(f"There is no model '{printable(model)}'; there are '{DESCRIBE}' and '{DETECT}'.")
    if model == DETECT and not card.detection:
        raise NotFoundError(f"There is no model '{DETECT}': there is no finder; the setting --finder names one.")
    if version not in (None, card.revision):
        raise NotFoundError(f"There is no version '{printable(str(version))}'; the model's is '{card.revision}'.")
    return card
