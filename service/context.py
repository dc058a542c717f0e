"""What every layer below the routes knows of a request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing the engine loads no tracing
    from opentelemetry.context import Context


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request's identity and limits: a value, made once per request and passed down, into threads too.

    id: the X-Request-Id. caller: the name of the API key, None where none is configured.
    timeout_s: the seconds that the request may take. deadline: when they are over, on the monotonic clock.
    began: when its first byte came, in `time.perf_counter` seconds.
    trace: the OpenTelemetry context that its spans belong to; None is the current one.
    """

    id: str
    caller: str | None
    timeout_s: float
    deadline: float
    began: float
    trace: "Context | None" = None
