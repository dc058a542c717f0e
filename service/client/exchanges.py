"""One call, from its request to its answer, without sending, waiting or threads: what `Client` and `AsyncClient` share.

`exchange` is a generator. It yields what is to be done next, a `Send` or a `Pause`, and is sent what came of it: the
`Reply`, the `Failure` of a connection, or None after a pause. It returns the reply of a request that was answered, and
raises a `ClientError` once nothing more can be tried. So it is tested without a socket or a clock.
"""

import json
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import httpx2

from dynrefer.service.client.errors import (
    BrokenAnswer,
    CertificateRejected,
    ClientError,
    ConnectionFailed,
    ServerTooSlow,
)
from dynrefer.service.client.refusals import problem_of_answer
from dynrefer.service.client.request_fields import Outgoing
from dynrefer.service.client.retries import BROKEN_ON_THE_WAY, PATIENT, Retries, retry_after_s

# Of the time that is left, what the service is told: so it answers that it was too slow before nobody listens any more.
_TOLD = 0.95
_LEAST_S = 0.001
_MOST_TOLD_S = 999_999.0  # as long a time as X-Request-Timeout can say

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request. headers: beside those of its body. timeout_s: until the whole answer is there."""

    outgoing: Outgoing
    headers: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. headers: by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No whole answer. error: the HTTP library's. began: whether its head had come."""

    error: httpx2.RequestError
    began: bool


Exchange = Generator[Send | Pause, Reply | Failure | None, Reply]


def exchange(
    outgoing: Outgoing,
    timeout_s: float,
    retries: Retries,
    clock: Callable[[], float] = time.monotonic,
    chance: Callable[[], float] = random.random,
) -> Exchange:
    """See above. timeout_s: for all tries and pauses together. clock: seconds. chance: from [0, 1)."""
    deadline, connections, refusals = clock() + timeout_s, 0, 0
    refused: Reply | None = None
    while True:
        left_s = max(deadline - clock(), _LEAST_S)
        outcome = yield Send(outgoing, _headers(outgoing, left_s), left_s)
        wait_s = None
        if isinstance(outcome, Reply) and outcome.status in PATIENT:
            refused, wait_s = outcome, retry_after_s(outcome.headers)
            again, refusals = retries.refusals is None or refusals < retries.refusals, refusals + 1
        elif isinstance(outcome, Failure) or (outcome is not None and outcome.status in BROKEN_ON_THE_WAY):
            again, connections = connections < retries.connections and _may_pass(outcome), connections + 1
        else:
            again = False
        pause_s = retries.pause_s(connections + refusals - 1, wait_s, chance()) if again else 0.0
        if not again or clock() + pause_s >= deadline:
            # Where a last try came too late after refusals, these are the reason.
            return _ended(refused if refused is not None and _is_late(outcome) else outcome, timeout_s)
        yield Pause(pause_s)


def read(reply: Reply, make: Callable[[Any], Result]) -> Result:
    """The records of an answer. Raises `BrokenAnswer` where it is none of this service's."""
    try:
        return make(json.loads(reply.body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        missing = f": it has no '{error.args[0]}'" if isinstance(error, KeyError) and error.args else ""
        raise BrokenAnswer(
            f"The answer (status {reply.status}) is not one of a dynrefer service{missing}; check the address."
        ) from error


def _headers(outgoing: Outgoing, left_s: float) -> dict[str, str]:
    told_s = min(max(left_s * _TOLD, _LEAST_S), _MOST_TOLD_S)
    told = {"X-Request-Timeout": f"{told_s:.6f}", "X-Request-Id": outgoing.request_id, "Accept": outgoing.accept}
    return {name: value for name, value in told.items() if value is not None}


def _may_pass(outcome: Reply | Failure) -> bool:
    """Whether another try can help: not where time is up, or what listens is the wrong one."""
    if isinstance(outcome, Reply):
        return True
    passing = isinstance(outcome.error, httpx2.TransportError) and not _is_about_certificate(outcome.error)
    return passing and not _is_late(outcome)


def _is_late(outcome: Reply | Failure | None) -> bool:
    """Whether there was a connection, but no answer in time."""
    if not isinstance(outcome, Failure):
        return False
    return isinstance(outcome.error, httpx2.TimeoutException) and not isinstance(outcome.error, httpx2.ConnectTimeout)


def _ended(outcome: Reply | Failure | None, timeout_s: float) -> Reply:
    if isinstance(outcome, Failure):
        raise_failure(outcome, timeout_s)
    assert outcome is not None, "a pause does not end an exchange"
    if outcome.status >= 400:
        raise problem_of_answer(outcome.status, outcome.headers, outcome.body)
    if outcome.status >= 300:
        to = outcome.headers.get("location", "")
        raise BrokenAnswer(f"The service answers from another address{f', {to[:200]}' if to else ''}; give that one.")
    return outcome


def raise_failure(failure: Failure, timeout_s: float) -> NoReturn:
    """The one exception of a connection that failed, with the library's as its cause."""
    raise _error_of(failure, timeout_s) from failure.error


def _error_of(failure: Failure, timeout_s: float) -> ClientError:
    error = failure.error
    where = _address(error)
    if _is_about_certificate(error):
        return CertificateRejected(
            f"The certificate of {where} is not trusted: {_reason_of_certificate(error)}. Name its authority's file in "
            "SSL_CERT_FILE or with verify=ssl.create_default_context(cafile=...), and use the host that it is for."
        )
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return ConnectionFailed(f"No connection to {where}: {_reason(error)}. Is the service running at this address?")
    if isinstance(error, httpx2.TimeoutException):
        return ServerTooSlow(f"No whole answer from {where} within {timeout_s:g} seconds; give timeout= more of them.")
    if failure.began or isinstance(error, httpx2.DecodingError):
        return BrokenAnswer(f"The answer of {where} broke off: {_reason(error)}.")
    if isinstance(error, httpx2.RemoteProtocolError) and "disconnected" not in str(error):
        return BrokenAnswer(
            f"What {where} sends is no HTTP: {_reason(error)}. Is it the right port, and http or https?"
        )
    return ConnectionFailed(f"The connection to {where} ended before an answer came: {_reason(error)}.")


def _address(error: httpx2.RequestError) -> str:
    try:
        url = error.request.url
    except RuntimeError:  # it belongs to no request
        return "the service"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it came of, as far as that is known."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        of_group = each.exceptions[0] if isinstance(each, BaseExceptionGroup) else None  # of asyncio's addresses
        each = of_group or each.__cause__ or each.__context__
    return found


def _is_about_certificate(error: BaseException) -> bool:
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _causes(error))


def _reason_of_certificate(error: BaseException) -> str:
    found = next(each for each in _causes(error) if isinstance(each, ssl.SSLCertVerificationError))
    return (found.verify_message or str(found)).rstrip(".").lower()


def _reason(error: httpx2.RequestError) -> str:
    """Why, in the operating system's words where it has some, else in the library's."""
    for each in reversed(_causes(error)):
        if isinstance(each, ssl.SSLError):
            plain = each.reason == "WRONG_VERSION_NUMBER"
            return "what listens there speaks no TLS; write http://" if plain else f"TLS failed ({each.reason})"
        if isinstance(each, socket.gaierror):
            return str(each.strerror).lower()
        if isinstance(each, OSError) and each.errno:
            return os.strerror(each.errno).lower()
    return (str(error) or type(error).__name__).rstrip(".").lower()
