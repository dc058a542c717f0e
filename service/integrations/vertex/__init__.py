"""Google's Vertex AI: the contract of a container for predictions, {"instances", "parameters"} -> {"predictions"}.

The platform names the two paths by variables, and the port by another (`settings.py`).
"""

import os
import re
from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import respond
from dynrefer.service.api.surfaces import Surface
from dynrefer.service.inputs.forms import check_json_headers
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.integrations.vertex.instances import KEY, read_instances
from dynrefer.service.integrations.vertex.predictions import answer, write_problem
from dynrefer.service.server.auth import PROBES, is_open
from dynrefer.service.settings import Settings, SettingsError

HEALTH, PREDICT = "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"
DEFAULTS = {HEALTH: "/vertex/health", PREDICT: "/vertex/predict"}
PATH = re.compile(r"(/[A-Za-z0-9._~:-]+)+")
_INSTANCES = {"type": "array", "items": {"type": "object"}, "minItems": 1}
_BODY = {
    "type": "object",
    "properties": {
        "instances": {**_INSTANCES, "description": "images, each with its regions where they are to be described"},
        "parameters": {
            "type": "object",
            "description": "the fields of the request that apply to all; `endpoint`; `key`",
        },
    },
    "required": ["instances"],
}
_EXTRA = {"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}}


def integration(settings: Settings) -> Integration:
    """The integration `vertex`. Raises SettingsError for a path of the platform's variables that cannot be one."""
    health_path, predict_path = _path(HEALTH), _path(PREDICT)
    router = APIRouter(tags=["vertex"])

    @router.get(health_path, summary="Vertex AI: can the service predict?", name="health")
    async def health(engine: CurrentEngine) -> Response:
        """As /readyz, without a body."""
        engine.require_ready()
        return Response()

    @router.post(predict_path, summary="Vertex AI: describe or find regions", name="predict", openapi_extra=_EXTRA)
    async def predict(
        request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
    ) -> Response:
        """As /v1/describe of several images, or as /v1/detect of each where `parameters.endpoint` is `detect`."""
        return await respond(
            request, engine, settings, buffer, read_instances, partial(answer, request), check_json_headers
        )

    # One of the service's own probes may be named as well: that answers then.
    paths = (predict_path,) if health_path in PROBES else (predict_path, health_path)
    surface = Surface("vertex", paths, write_problem, open_paths=frozenset({health_path}), key_members=KEY)
    if is_open(predict_path, surface):
        raise SettingsError(f"{PREDICT} {predict_path} is a path that needs no key; name another one.")
    return Integration(surface, router)


def _path(variable: str) -> str:
    found = os.environ.get(variable) or DEFAULTS[variable]
    if not PATH.fullmatch(found):
        raise SettingsError(f"{variable} {found!r} is invalid: a path is expected, such as {DEFAULTS[variable]}.")
    return found
