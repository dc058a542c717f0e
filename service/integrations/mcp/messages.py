"""The body of a request -> a message of the protocol, read as strictly and as cheaply as the service's own requests.

The arguments of a tool's call are read here too, into what the engine is asked: the image's Base64 never reaches the
protocol's package, whose parser would hold the event loop for it.
"""

import json
from dataclasses import dataclass
from typing import Any

from dynrefer.model import QueryError, ResolveVocabulary
from dynrefer.service.errors import InvalidRequestError, ServiceError
from dynrefer.service.inputs.json_text import parse_json
from dynrefer.service.inputs.region_prompts import BytesOf
from dynrefer.service.integrations.mcp.arguments import READERS, ToolCall
from dynrefer.service.settings import Settings

JSON = "application/json"
CALL = "tools/call"


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """A message. text: its JSON; of a tool's call without the arguments. call: what is asked of the tool, or what is
    wrong with its arguments; None where no tool of ours is called.
    """

    text: bytes
    call: ToolCall | ServiceError | QueryError | None = None

    @property
    def num_bytes(self) -> int:
        """Of what it holds."""
        return len(self.text) + (self.call.parsed.num_bytes if isinstance(self.call, ToolCall) else 0)


def is_allowed_origin(origin: str | None, settings: Settings) -> bool:
    """Whether the web page that sends a request, if one does, may: the protocol asks for it, so that no page reaches a
    service in its visitor's network, under a name that it makes resolve to there."""
    return origin is None or not {"*", origin}.isdisjoint(settings.cors_origins)


def read_message(
    body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> ToolMessage:
    """A message. CPU work. Raises InvalidRequestError where the body is none; what is wrong with the arguments of a
    tool's call is an answer to it."""
    parsed = parse_json(body, settings.max_json_values)
    message = parsed.document
    if isinstance(message, list):
        raise InvalidRequestError.at("", "Send one message of JSON-RPC, and no list of them.")
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise InvalidRequestError.at("", "A message of JSON-RPC 2.0 is expected: an object with 'jsonrpc': '2.0'.")
    if not isinstance(message.get("method"), str):
        raise InvalidRequestError.at("/method", "A text is expected: the name of a method.")
    if "id" in message and not _is_id(message["id"]):
        raise InvalidRequestError.at("/id", "A text or a whole number is expected.")
    params = message.get("params")
    if params is not None and not isinstance(params, dict):
        raise InvalidRequestError.at("/params", "An object is expected.")
    if message["method"] != CALL or not isinstance(params, dict) or not isinstance(params.get("arguments"), dict):
        return ToolMessage(_written(message))
    without = _written({**message, "params": {**params, "arguments": {}}})
    return ToolMessage(without, _call(params.get("name"), params["arguments"], settings, resolve, parsed.bytes_of))


def _is_id(given: Any) -> bool:
    """Whether JSON-RPC can name a request so; true is a number in Python."""
    return isinstance(given, str | int) and not isinstance(given, bool)


def _call(
    name: Any, arguments: dict[str, Any], settings: Settings, resolve: ResolveVocabulary, bytes_of: BytesOf
) -> ToolCall | ServiceError | QueryError | None:
    read = READERS.get(name) if isinstance(name, str) else None
    if read is None:
        return None
    try:
        return read(arguments, settings, resolve, bytes_of)
    except (ServiceError, QueryError) as error:
        return error


def _written(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()
