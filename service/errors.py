"""The errors that the service raises on purpose. How each is told over HTTP stands in `api/problems.py`.

    ServiceError
    ├── InvalidRequestError     a field that cannot be honoured, with its JSON pointer      422
    ├── BodyTooLargeError       more bytes than max_body_bytes                              413
    ├── UnsupportedMediaError   content type or content encoding                            415
    ├── UnauthorizedError       no key, or one that is not known                            401
    ├── QueueFullError          no room for the whole request                               429
    ├── UnavailableError        not ready, draining, or the device is lost                  503
    ├── DeadlineError           the request's deadline passed                               504
    └── RegionFailedError       the model failed on this region                             500

`QueryError` and `ImageError` of `dynrefer.model.errors` are in the same table. Every message is one sentence of ours:
no trace, path or library's text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request. pointer: RFC 6901, into the JSON document; "" is the whole document."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """Base of every error that the service raises on purpose. detail: one sentence for the client."""

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, flaws: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.flaws = tuple(flaws)


class InvalidRequestError(ServiceError):
    """Fields that cannot be honoured."""

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidRequestError":
        """One flaw, which is also the summary."""
        return cls(detail, [FieldError(pointer, detail)])


class BodyTooLargeError(ServiceError):
    """The body has more bytes than the settings allow."""


class UnsupportedMediaError(ServiceError):
    """A content type or content encoding that is not accepted."""


class UnauthorizedError(ServiceError):
    """No key, or one that is not known."""

    headers = {"WWW-Authenticate": "Bearer"}


class RetryLaterError(ServiceError):
    """A refusal that is worth another try. retry_after_s: whole seconds, at least 1."""

    def __init__(self, detail: str, retry_after_s: float = 1.0, flaws: Sequence[FieldError] = ()) -> None:
        super().__init__(detail, flaws)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class QueueFullError(RetryLaterError):
    """The queue has no room for the whole request."""


class UnavailableError(RetryLaterError):
    """Not ready, draining, or the device is lost."""


class DeadlineError(ServiceError):
    """The request's deadline passed."""


class RegionFailedError(ServiceError):
    """The model failed on a region."""
