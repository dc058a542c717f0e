"""POST and GET /v1/models/reload: another model without a restart. There only where administrators have keys."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings, request_context
from dynrefer.service.api.openapi import PROBLEMS, RELOAD_EXTRA, pick
from dynrefer.service.api.reload_schemas import ReloadAnswer, reload_answer
from dynrefer.service.engine.reloading import Reloading, Switch
from dynrefer.service.errors import ForbiddenError
from dynrefer.service.inputs.bodies import read_body
from dynrefer.service.inputs.forms import check_json_headers
from dynrefer.service.inputs.reloading import MOST_BYTES, model_source, read_reload
from dynrefer.service.server.auth import RELOAD_PATH

LONGEST_S = 3_600.0  # that a request waits for a model; X-Request-Timeout may shorten it

router = APIRouter(tags=["operations"])


async def _reloading(request: Request) -> Reloading:
    """Raises ForbiddenError for a key that is not an administrator's."""
    if not request.state.admin:
        raise ForbiddenError("This key may not load models; send the key of an administrator.")
    reloading: Reloading = request.app.state.reloading
    return reloading


AdminReloading = Annotated[Reloading, Depends(_reloading)]


@router.get(
    RELOAD_PATH,
    summary="Which model serves, and what is being loaded",
    response_model=ReloadAnswer,
    response_model_exclude_none=True,
    responses=pick(PROBLEMS, 401, 403),
)
async def reload_state(reloading: AdminReloading) -> ReloadAnswer:
    """The model that serves, the one before it, what is under way, and why the last attempt failed. Needs the key of an
    administrator."""
    return reload_answer(reloading.state)


@router.post(
    RELOAD_PATH,
    summary="Let another model serve, without a restart",
    response_model=ReloadAnswer,
    response_model_exclude_none=True,
    responses=pick(PROBLEMS, 401, 403, 409, 413, 415, 422, 503, 504),
    openapi_extra=RELOAD_EXTRA,
)
async def reload_model(
    request: Request,
    engine: CurrentEngine,
    settings: CurrentSettings,
    buffer: CurrentBuffer,
    reloading: AdminReloading,
) -> ReloadAnswer:
    """The new model is loaded and warmed up beside the one that serves; then it answers new requests, and those that
    were admitted before are finished by the old one: none fails. The answer comes once the old one is ended and its
    memory is given back. Where the new model cannot be loaded, the old one goes on.

    The switch goes on when the client leaves or `X-Request-Timeout` (seconds) is over. Needs the key of an
    administrator.
    """
    encodings = ",".join(request.headers.getlist("content-encoding"))
    check_json_headers(request.headers.get("content-type", ""), encodings)
    context = request_context(request, settings, LONGEST_S)
    with buffer.lease(context.caller) as lease:
        asked = read_reload(await read_body(request, MOST_BYTES, lease))
    if asked.model is None:
        source, pointer = reloading.previous, "/previous"
    else:
        source, pointer = await engine.run_in_cpu_pool(partial(model_source, asked.model, settings)), "/model"
    await reloading.switch(Switch(source, pointer, asked.unload_first, context.caller), context.timeout_s)
    return reload_answer(reloading.state)
