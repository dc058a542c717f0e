"""Which of the service's two requests is meant, where another system has one path for all: the member `endpoint`.

`task` would name it elsewhere, but is a field of /v1/describe already.
"""

from typing import Any, Literal

from dynrefer.service.errors import InvalidRequestError

Endpoint = Literal["describe", "detect"]


def endpoint_of(value: Any, pointer: str) -> Endpoint:
    """What a request says that it means; None is describe. Raises InvalidRequestError, at the pointer."""
    if value is None or value == "describe":
        return "describe"
    if value == "detect":
        return "detect"
    raise InvalidRequestError.at(pointer, "The endpoint is 'describe' or 'detect'.")
