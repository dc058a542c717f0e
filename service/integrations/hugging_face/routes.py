"""POST /hf/{task}, and what the client's `health_check` and `get_endpoint_info` ask for below it."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from dynrefer.service.api.answering import answer_parsed
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import json_response, respond
from dynrefer.service.context import RequestContext
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.inputs.parsing import ParsedRequest
from dynrefer.service.integrations.hugging_face.payloads import check_headers, read_payload
from dynrefer.service.integrations.hugging_face.tasks import TASKS, HubTask, task_of

router = APIRouter(tags=["hugging-face"])

_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_PAYLOAD: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {"type": "string", "description": "the image in Base64, or its URL"},
            "parameters": {"type": "object", "description": "those of the task"},
        },
    }
}
_EXTRA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"image/*": _FILE, "application/octet-stream": _FILE, "application/json": _PAYLOAD},
    }
}


@router.post("/hf/{task}", summary="Hugging Face: " + ", ".join(TASKS), openapi_extra=_EXTRA)
async def infer(
    task: str, request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """The answer that `huggingface_hub.InferenceClient` reads. The body is the image's file, or JSON with `inputs` and
    `parameters`; the query has the regions and whatever else /v1/describe and /v1/detect take there.
    """
    known = task_of(task)
    read, answer = partial(read_payload, known), partial(_answer, request, known)
    return await respond(request, engine, settings, buffer, read, answer, check_headers)


@router.get("/hf/{task}/health", summary="Hugging Face: can the service do this task?")
async def health(task: str, engine: CurrentEngine) -> Response:
    """200 as /readyz."""
    task_of(task)
    engine.require_ready()
    return Response()


@router.get("/hf/{task}/info", summary="Hugging Face: what answers")
async def info(task: str, engine: CurrentEngine) -> dict[str, Any]:
    """The model, in the words of Inference Endpoints."""
    card = engine.card
    return {
        "model_id": card.name,
        "model_sha": card.revision,
        "model_dtype": card.dtype,
        "model_device_type": card.device,
        "model_pipeline_tag": task_of(task).name,
    }


async def _answer(
    request: Request, task: HubTask, parsed: ParsedRequest | ParsedDetection, lease: Lease, context: RequestContext
) -> Response:
    return json_response(*await answer_parsed(request, parsed, lease, context, task.write))
