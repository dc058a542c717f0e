"""What a client of the protocol is told of an error: of a message, an error of JSON-RPC; of a tool's call, a result
that says so, which a language model reads and can act on.
"""

import json
import logging

from fastapi import Response
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST, CallToolResult, TextContent

from dynrefer.service.api.problems import ProblemType, ToldProblem, told

logger = logging.getLogger(__name__)

MOST_FIELDS = 5  # of those at fault, so many are named to a language model
FORBIDDEN = ProblemType(403, "forbidden", "Forbidden")


def write_problem(problem: ToldProblem) -> Response:
    """An error of JSON-RPC with the problem document in `data`. Its id is null: most are refused before that is read.

    A request that is not valid is 400, as the transport has it, and no 422.
    """
    status = 400 if problem.kind.status == 422 else problem.kind.status
    code = INTERNAL_ERROR if status >= 500 else INVALID_REQUEST
    error = {"code": code, "message": problem.detail, "data": problem.document}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error})
    return Response(body, status, dict(problem.headers), media_type="application/json")


def forbidden(request_id: str) -> Response:
    """The answer to a web page that the settings do not name."""
    detail = "Web pages of this origin may not call the service; the server's cors_origins names those that may."
    return write_problem(ToldProblem(FORBIDDEN, detail, request_id))


def error_result(error: Exception, request_id: str) -> CallToolResult:
    """A tool's result that says what is wrong, with the fields at fault and the id under which the log has it."""
    problem = told(error, request_id)
    if problem.kind.status >= 500:
        logger.error("a tool's call failed", exc_info=error)
    fields = [f"{each.pointer}: {each.detail}".removeprefix(": ") for each in problem.fields[:MOST_FIELDS]]
    lines = fields if len(fields) == 1 else [problem.detail, *fields]
    if retry := problem.headers.get("Retry-After"):
        lines.append(f"Try again in {retry} s.")
    lines.append(f"(request {request_id})")
    return CallToolResult(content=[TextContent(type="text", text="\n".join(lines))], is_error=True)
