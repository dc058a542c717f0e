"""What can go wrong between a client and its service::

    ClientError
    ├── ProblemError          the service answered with a problem document: status, type, detail, errors, request_id
    │   ├── InvalidRequest    a field that it cannot honour (also a `QueryError`)                      422
    │   ├── ImageRefused      a damaged image, one too large, an unknown format (also an `ImageError`) 413, 415, 422
    │   ├── Unauthorized      no key, or one that it does not know                                     401
    │   ├── Forbidden             a key that does not allow it                                         403
    │   ├── NotFound          nothing has this name, or no such service listens here                   404
    │   ├── Conflict              it cannot be done as things are now                                  409
    │   ├── TooBusy           its queue stayed full until the deadline                                 429
    │   ├── NotReady          it stayed not ready, or is shutting down                                 503
    │   ├── DeadlinePassed    it gave up at the deadline (also a `ServerTooSlow`)                      504
    │   └── ServerFailed      the model or the service failed                                          5xx
    ├── ConnectionFailed      nobody listens, or the connection broke before an answer came
    │   └── CertificateRejected   whoever listens shows a certificate that is not trusted for this name
    ├── ServerTooSlow         no whole answer within `timeout`
    └── BrokenAnswer          an answer that broke off, or that no service of ours gives

A request that `DynRefer` would refuse raises an error that is a `QueryError` or an `ImageError` of the model here too,
so that one `except` serves both. Arguments of a wrong type raise `QueryError` before anything is sent, and files that
cannot be opened OSError. Every message is one sentence that says what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model.errors import ImageError, QueryError


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with a request. pointer: RFC 6901, into its JSON document; "" is the whole of it."""

    pointer: str
    detail: str


class ClientError(Exception):
    """Base of every error that a client raises on purpose once a request is under way."""


class ProblemError(ClientError):
    """An answer that is a problem document (RFC 9457), or an error without one.

    status: of HTTP; of a region that failed alone, what its request would have had. type: a URN made for programs, the
    kind of problem; title: the kind in words. detail: one sentence about this occurrence. errors: the fields at fault.
    request_id: what the server's log has. retry_after: seconds after which another try is worth it; None: not said.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        type: str = "about:blank",
        title: str = "",
        errors: Sequence[FieldProblem] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail, self.status, self.type, self.title = detail, status, type, title
        self.errors, self.request_id, self.retry_after = tuple(errors), request_id, retry_after

    def __str__(self) -> str:
        """The sentence; with several fields at fault, what is wrong with the first three as well."""
        if len(self.errors) < 2:
            return self.detail
        said = [f"{each.pointer}: {each.detail}" for each in self.errors[:3]]
        more = [f"and {len(self.errors) - 3} more."] if len(self.errors) > 3 else []
        return " ".join([self.detail, *said, *more])

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickles, which would make it of the message alone."""
        return _unpickled, (type(self), self.detail), dict(self.__dict__)


def _unpickled(kind: type[ProblemError], detail: str) -> ProblemError:
    return kind(detail, status=0)


class InvalidRequest(ProblemError, QueryError):
    """A field that the service cannot honour. index: of the first region at fault, None where it is no region's;
    field: the member at fault, such as "box"."""

    def __init__(self, detail: str, **members: object) -> None:
        super().__init__(detail, **members)  # type: ignore[arg-type]
        parts = self.errors[0].pointer.split("/")[1:] if self.errors else []
        if len(parts) > 1 and parts[0] == "regions" and parts[1].isdigit():
            self.index = int(parts[1])
            parts = parts[2:]
        self.field = "/".join(parts)


class ImageRefused(ProblemError, ImageError):
    """An image, or a body, that the service does not take: damaged, too large, too costly, or of an unknown format."""


class Unauthorized(ProblemError):
    """The service wants a key, or does not know this one."""


class Forbidden(ProblemError):
    """The key does not allow what was asked for."""


class Conflict(ProblemError):
    """What was asked for cannot be done as things are now."""


class NotFound(ProblemError):
    """Nothing has this name; or the address is not that of a service of this kind."""


class TooBusy(ProblemError):
    """There was no room for the request until its deadline."""


class NotReady(ProblemError):
    """The service was starting, shutting down or without its device until the deadline."""


class ServerFailed(ProblemError):
    """The model, the service or something between it and the client failed."""


class ConnectionFailed(ClientError):
    """No connection, or one that ended before an answer began."""


class CertificateRejected(ConnectionFailed):
    """The certificate of whoever listens is not trusted, has ended, or is for another name."""


class ServerTooSlow(ClientError):
    """No whole answer within the time that the call had."""


class DeadlinePassed(ProblemError, ServerTooSlow):
    """The service itself gave up at the deadline that it was told, or at its own."""


class BrokenAnswer(ClientError):
    """An answer that broke off, is no JSON, or lacks what an answer of this service has."""
