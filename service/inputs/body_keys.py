"""API keys in the bodies of requests, for platforms that pass no header of their clients on."""

from collections.abc import Sequence

from dynrefer.service.inputs.json_text import parse_json


def key_in_body(body: bytes, members: Sequence[str], max_values: int) -> str | None:
    """The key in a JSON body, None where there is none. CPU work. members: those that lead to it.

    Raises InvalidRequestError for a body that is no JSON.
    """
    found = parse_json(body, max_values).document
    for name in members:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None
