"""The Model Context Protocol: tools `describe`, `detect` and `explain` for programs with a language model, at /mcp.

A message is one POST and its answer one JSON document: the streamable HTTP transport without sessions and streams, so
that nothing is held between requests and every message lives within the limits of `api/posting.py: respond`. Its JSON
is read by this service, the image out of it too (`messages.py`); the protocol itself, in each of its revisions, is the
package's (`transport.py`).
"""

from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import respond
from dynrefer.service.api.surfaces import Surface
from dynrefer.service.inputs.forms import check_json_headers
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.settings import Settings, SettingsError

PATH = "/mcp"
PAGE_HEADERS = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "object", "description": "a JSON-RPC 2.0 message"}}},
}


def integration(settings: Settings) -> Integration:
    """The integration `mcp`. Raises SettingsError where its package is missing."""
    try:
        from dynrefer.service.integrations.mcp.errors import forbidden, write_problem
        from dynrefer.service.integrations.mcp.messages import is_allowed_origin, read_message
        from dynrefer.service.integrations.mcp.transport import answer
    except ModuleNotFoundError as error:
        raise SettingsError(f"the integration mcp needs pip install 'dynrefer[mcp]' ({error}).") from None
    router = APIRouter(tags=["mcp"])

    @router.post(PATH + "/", include_in_schema=False)
    @router.post(PATH, summary="A message of the Model Context Protocol", openapi_extra={"requestBody": _BODY})
    async def mcp(
        request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
    ) -> Response:
        """The streamable HTTP transport, without sessions: `tools/list`, and `tools/call` of describe, detect and
        explain."""
        if not is_allowed_origin(request.headers.get("origin"), settings):
            return forbidden(request.state.request_id)
        return await respond(
            request, engine, settings, buffer, read_message, partial(answer, request), check_json_headers
        )

    return Integration(Surface("mcp", (PATH, PATH + "/"), write_problem, page_headers=PAGE_HEADERS), router)
