"""A call of a tool -> its result, by way of the engine, as a request of the service's own."""

from dataclasses import dataclass

from fastapi import Request
from mcp.types import CallToolResult

from dynrefer.model import QueryError
from dynrefer.service.api.answering import describe_regions, find_regions
from dynrefer.service.context import RequestContext
from dynrefer.service.errors import InvalidRequestError, ServiceError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.integrations.mcp.arguments import ToolCall
from dynrefer.service.integrations.mcp.errors import error_result
from dynrefer.service.integrations.mcp.results import described_result, found_result


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool with the request that it came in. asked: None where it brought no arguments."""

    request: Request
    asked: ToolCall | ServiceError | QueryError | None
    lease: Lease
    context: RequestContext


async def result_of(call: Call) -> CallToolResult:
    """The result, which says what is wrong where something is."""
    try:
        if isinstance(call.asked, Exception):
            raise call.asked
        if call.asked is None:
            raise InvalidRequestError.at("/image", "This argument is required.")
        return await _answered(call, call.asked)
    except Exception as error:  # the package would tell the client what an unforeseen one says
        return error_result(error, call.context.id)


async def _answered(call: Call, asked: ToolCall) -> CallToolResult:
    if isinstance(asked.parsed, ParsedDetection):
        found, _ = await find_regions(call.request, asked.parsed, call.lease, call.context, found_result)
        return found
    described, _ = await describe_regions(call.request, asked.parsed, call.lease, call.context, described_result)
    return described
