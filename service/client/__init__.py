"""The Python client: regions described by a service, as the records that `DynRefer` returns.

    from dynrefer import Client
    with Client("http://127.0.0.1:8000") as client:
        client.describe("dog.jpg", [(64, 256, 384, 384)])

One call is the same for `Client` and `AsyncClient` up to how bytes travel: `request_fields.py` and `image_bytes.py`
make a request of the arguments, `exchanges.py` says what is sent next and when, without sending anything, and
`records.py` and `conversations.py` read the answer. No torch, no FastAPI; NumPy and Pillow where an image is given that
only they can read.
"""

from dynrefer.service.client.answer_streams import AnswerStream, AsyncAnswerStream
from dynrefer.service.client.async_client import AsyncClient
from dynrefer.service.client.client import Client
from dynrefer.service.client.conversation_fields import AskOptions
from dynrefer.service.client.conversations import ServedReply
from dynrefer.service.client.errors import (
    BrokenAnswer,
    CertificateRejected,
    ClientError,
    Conflict,
    ConnectionFailed,
    DeadlinePassed,
    FieldProblem,
    Forbidden,
    ImageRefused,
    InvalidRequest,
    NotFound,
    NotReady,
    ProblemError,
    ServerFailed,
    ServerTooSlow,
    TooBusy,
    Unauthorized,
)
from dynrefer.service.client.records import (
    AnswerInfo,
    Described,
    ReloadStatus,
    Reported,
    ServedModel,
    VocabularySummary,
)
from dynrefer.service.client.request_fields import DescribeOptions, DetectOptions
from dynrefer.service.client.retries import NO_RETRIES, Retries

__all__ = [
    "NO_RETRIES",
    "AnswerInfo",
    "AnswerStream",
    "AskOptions",
    "AsyncAnswerStream",
    "AsyncClient",
    "BrokenAnswer",
    "CertificateRejected",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "DeadlinePassed",
    "DescribeOptions",
    "Described",
    "DetectOptions",
    "FieldProblem",
    "Forbidden",
    "ImageRefused",
    "InvalidRequest",
    "NotFound",
    "NotReady",
    "ProblemError",
    "ReloadStatus",
    "Reported",
    "Retries",
    "ServedModel",
    "ServedReply",
    "ServerFailed",
    "ServerTooSlow",
    "TooBusy",
    "Unauthorized",
    "VocabularySummary",
]
