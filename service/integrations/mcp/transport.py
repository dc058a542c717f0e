"""A message -> its answer, by the protocol's package: handshakes and revisions are its; what a tool does is ours.

Every message gets a transport of its own, without a session, which lives in the task of its request: cancelled with it,
and logged under its id.
"""

import asyncio
import importlib.metadata
from functools import cache
from typing import Any

from fastapi import Request, Response
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams
from starlette.types import Message, Scope

from dynrefer.service.context import RequestContext
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.integrations.mcp.arguments import READERS, tools
from dynrefer.service.integrations.mcp.calls import Call, result_of
from dynrefer.service.integrations.mcp.messages import ToolMessage

INSTRUCTIONS = (
    "Describes and finds regions of an image. Boxes are [x1, y1, x2, y2] in pixels, unless 'coordinates' says "
    "otherwise. Probabilities are calibrated. detect finds boxes, describe says what is in boxes, explain says why."
)


async def answer(request: Request, message: ToolMessage, lease: Lease, context: RequestContext) -> Response:
    """The package's response to a message."""
    scope: Scope = {**request.scope, "state": {**request.scope["state"], "call": None}}
    scope["state"]["call"] = Call(request, message.call, lease, context)
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": message.text, "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        return await asyncio.Future()  # whether the client has gone is watched where the request was read

    async def send(part: Message) -> None:
        sent.append(part)

    limit = request.app.state.settings.max_body_bytes
    manager = StreamableHTTPSessionManager(_server(), json_response=True, stateless=True, max_request_body_size=limit)
    async with manager.run():
        await manager.handle_request(scope, receive, send)
    body = b"".join(part.get("body", b"") for part in sent[1:])
    response = Response(body, sent[0]["status"])
    response.raw_headers = [each for each in sent[0]["headers"] if each[0].lower() != b"content-length"]
    response.raw_headers.append((b"content-length", str(len(body)).encode()))
    return response


@cache
def _server() -> Server[Any]:
    listed = tools()
    schemas = {tool.name: tool.input_schema for tool in listed}

    async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=listed)

    async def call_tool(context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        if params.name not in READERS:
            raise MCPError(INVALID_PARAMS, f"There is no tool '{params.name[:64]}'; there are {', '.join(READERS)}.")
        assert context.request is not None  # as every message of this transport has one
        return await result_of(context.request.state.call)

    return Server(
        "dynrefer",
        version=importlib.metadata.version("dynrefer"),
        title="DynRefer",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
