"""The errors that the service raises on purpose. `api/problems.py` maps each to a status and a problem type.

    ServiceError
    ├── InvalidRequestError     a field that cannot be honoured, with its JSON pointer      422
    │   └── ModelNotLoadedError     a model that was asked for, and cannot serve            422
    ├── BodyTooLargeError       more bytes than max_body_bytes                              413
    ├── UnsupportedMediaError   content type or content encoding                            415
    ├── UnauthorizedError       no API key, or an unknown one                               401
    ├── ForbiddenError          a key that is not an administrator's                        403
    ├── NotFoundError           nothing has this name                                       404
    ├── ConflictError           what is asked for cannot be done now, as things are         409
    ├── QueueFullError          no room for the whole request                               429
    ├── UnavailableError        not ready, draining, or the device is lost                  503
    ├── DeadlineExceeded        the request's deadline passed                               504
    ├── UpstreamError           another service that is asked answered nothing of use       502
    └── RegionFailedError       the model failed on this region                             500

`QueryError` and `ImageError` of `dynrefer.model.errors` are in the same table. Every message is one sentence of ours:
no trace, path or library's text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request. pointer: RFC 6901, into the JSON document; "" is the whole document."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """Base of every error that the service raises on purpose.

    detail: one sentence for the client. fields: what exactly is wrong, where fields of the request are to blame.
    """

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)


class InvalidRequestError(ServiceError):
    """Fields that cannot be honoured."""

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """One field, whose error is also the summary."""
        return cls(detail, [FieldError(pointer, detail)])


class ModelNotLoadedError(InvalidRequestError):
    """A model that was to serve cannot be loaded, or cannot describe a region."""


class BodyTooLargeError(ServiceError):
    """The body has more bytes than the settings allow."""


class UnsupportedMediaError(ServiceError):
    """A content type or content encoding that is not accepted."""


class UnauthorizedError(ServiceError):
    """No API key, or an unknown one."""

    headers = {"WWW-Authenticate": "Bearer"}


class ForbiddenError(ServiceError):
    """A key that does not allow what is asked for."""


class ConflictError(ServiceError):
    """What is asked for cannot be done as things are now."""


class NotFoundError(ServiceError):
    """A name in the path that nothing has."""


class RetryLaterError(ServiceError):
    """A refusal that is worth another try. retry_after_s: whole seconds, at least 1."""

    def __init__(self, detail: str, retry_after_s: float = 1.0, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(detail, fields)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class QueueFullError(RetryLaterError):
    """There is no room for the whole request. reason: what is full, as a label of the metric dynrefer_rejected."""

    def __init__(self, detail: str, retry_after_s: float = 1.0, reason: str = "") -> None:
        super().__init__(detail, retry_after_s)
        self.reason = reason


class UnavailableError(RetryLaterError):
    """The service is not ready, draining, or without its device."""


class DeadlineExceeded(ServiceError):
    """The request's deadline passed."""


class UpstreamError(ServiceError):
    """Another service, which the settings name, did not answer as it is to."""


class RegionFailedError(ServiceError):
    """The model failed on a region."""
