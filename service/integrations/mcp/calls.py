"""A call of a tool -> its result, by way of the engine, as a request of the service's own."""

from dataclasses import dataclass, replace
from functools import partial

from fastapi import Request
from mcp.types import CallToolResult

from dynrefer.model import QueryError
from dynrefer.service.api.answering import describe_regions, find_regions
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.posting import fetched
from dynrefer.service.api.schemas import DescribeResponse
from dynrefer.service.context import RequestContext
from dynrefer.service.errors import InvalidRequestError, ServiceError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.integrations.mcp.arguments import ToolCall
from dynrefer.service.integrations.mcp.errors import error_result
from dynrefer.service.integrations.mcp.pictures import drawn
from dynrefer.service.integrations.mcp.results import described_result, found_result, with_drawing


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
    request, parsed = call.request, asked.parsed
    image = b""
    if asked.draw:  # it is needed twice
        image = await fetched(request, parsed.image, parsed.url, call.lease)
    if isinstance(parsed, ParsedDetection):
        parsed = replace(parsed, image=image, url=None) if image else parsed
        found, _ = await find_regions(request, parsed, call.lease, call.context, partial(_found, image))
        return found
    parsed = replace(parsed, image=image, url=None) if image else parsed
    described, _ = await describe_regions(request, parsed, call.lease, call.context, partial(_described, image))
    return described


def _described(image: bytes, answer: DescribeResponse) -> CallToolResult:
    result = described_result(answer)
    return with_drawing(result, drawn(image, answer)) if image else result


def _found(image: bytes, answer: DetectResponse) -> CallToolResult:
    result = found_result(answer)
    return with_drawing(result, drawn(image, answer)) if image else result
