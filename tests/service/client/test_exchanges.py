"""What is sent next, and when: without a socket and without waiting."""

import ssl
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from dynrefer.service.client.errors import (
    BrokenAnswer,
    CertificateRejected,
    ClientError,
    ConnectionFailed,
    DeadlinePassed,
    InvalidRequest,
    NotReady,
    ServerFailed,
    ServerTooSlow,
    TooBusy,
)
from dynrefer.service.client.exchanges import Failure, Pause, Reply, Send, exchange, read
from dynrefer.service.client.request_fields import Outgoing
from dynrefer.service.client.retries import NO_RETRIES, Retries

USUAL = Retries()
ASKED = Outgoing("/v1/describe", {"regions": []}, b"image")
URL = "https://host.example:8000/v1/describe"
FINE = Reply(200, {}, b"{}")
BUSY = Reply(429, {"retry-after": "3"}, b'{"detail": "Full."}')
AWAY = Reply(503, {}, b'{"detail": "Starting."}')


def failure(kind: type[httpx2.RequestError], text: str = "", *, began: bool = False) -> Failure:
    error = kind(text)
    error.request = httpx2.Request("POST", URL)
    return Failure(error, began)


def certificate() -> Failure:
    found = failure(httpx2.ConnectError, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "Hostname mismatch"
    found.error.__cause__ = cause
    return found


REFUSED = failure(httpx2.ConnectError, "refused")
RESET = failure(httpx2.RemoteProtocolError, "Server disconnected without sending a response.")
LATE = failure(httpx2.ReadTimeout, "timed out")


class Course:
    """What an exchange does as these outcomes come in; each try takes `try_s`. done: sends and pauses, in order."""

    def __init__(
        self,
        outcomes: Sequence[Reply | Failure],
        timeout_s: float = 60.0,
        retries: Retries = USUAL,
        try_s: float = 1,
    ) -> None:
        self.now, self.done, rest = 0.0, [], list(outcomes)
        steps = exchange(ASKED, timeout_s, retries, lambda: self.now, lambda: 0.0)
        self.reply: Reply | None = None
        self.error: ClientError | None = None
        outcome: Any = None
        try:
            while True:
                step = steps.send(outcome)
                self.done.append(step)
                outcome = None
                if isinstance(step, Pause):
                    self.now += step.seconds
                else:
                    self.now += try_s
                    outcome = rest.pop(0) if len(rest) > 1 else rest[0]
        except StopIteration as ended:
            self.reply = ended.value
        except ClientError as error:
            self.error = error

    @property
    def pauses(self) -> list[float]:
        return [step.seconds for step in self.done if isinstance(step, Pause)]

    @property
    def sends(self) -> list[Send]:
        return [step for step in self.done if isinstance(step, Send)]


def test_an_answer_at_once() -> None:
    course = Course([FINE])
    assert course.reply is FINE and course.pauses == []
    (send,) = course.sends
    assert send.outgoing is ASKED and send.timeout_s == 60


def test_a_full_queue_is_asked_again_after_as_long_as_it_says() -> None:
    course = Course([BUSY, BUSY, FINE])
    assert course.reply is FINE and course.pauses == [3, 3]


def test_a_pause_grows_where_the_server_says_nothing() -> None:
    course = Course([AWAY] * 8 + [FINE])
    assert course.reply is FINE
    assert course.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_clients_that_were_refused_together_do_not_come_back_together() -> None:
    assert Retries().pause_s(0, 4.0, chance=0.0) == 4.0
    assert Retries().pause_s(0, 4.0, chance=1.0) == 5.0


def test_no_try_begins_after_the_deadline() -> None:
    course = Course([BUSY], timeout_s=10)
    assert isinstance(course.error, TooBusy) and course.error.retry_after == 3
    assert course.now <= 10 and course.pauses == [3, 3]  # a third would end at 12


def test_a_service_that_says_to_come_back_too_late_is_not_waited_for() -> None:
    course = Course([Reply(503, {"retry-after": "3600"}, b'{"detail": "Down."}')])
    assert isinstance(course.error, NotReady) and course.pauses == [] and course.error.retry_after == 3600


def test_a_last_try_that_comes_too_late_does_not_hide_why_it_was_late() -> None:
    assert isinstance(Course([BUSY, LATE]).error, TooBusy)
    assert isinstance(Course([RESET, LATE]).error, ServerTooSlow)


def test_each_try_has_what_is_left_of_the_time_and_tells_the_service_a_little_less() -> None:
    course = Course([BUSY, FINE], timeout_s=60)
    assert [send.timeout_s for send in course.sends] == [60, 56]
    told = [float(send.headers["X-Request-Timeout"]) for send in course.sends]
    assert all(0.9 * send.timeout_s < each < send.timeout_s for send, each in zip(course.sends, told, strict=True))


@pytest.mark.parametrize("outcome", [REFUSED, RESET, Reply(502, {}, b"<html>Bad gateway</html>")])
def test_a_connection_that_fails_is_made_again_a_few_times(outcome: Reply | Failure) -> None:
    assert Course([outcome, outcome, FINE]).reply is FINE
    course = Course([outcome])
    assert len(course.sends) == 3 and course.pauses == [0.1, 0.2]
    assert isinstance(course.error, ServerFailed if isinstance(outcome, Reply) else ConnectionFailed)


@pytest.mark.parametrize(
    ("outcome", "kind", "part"),
    [
        (Reply(422, {}, b'{"detail": "A box."}'), InvalidRequest, "A box."),
        (Reply(500, {}, b'{"detail": "It failed."}'), ServerFailed, "It failed."),
        (Reply(504, {}, b'{"detail": "Late."}'), DeadlinePassed, "Late."),
        (Reply(307, {"location": "https://elsewhere/"}, b""), BrokenAnswer, "https://elsewhere/"),
        (LATE, ServerTooSlow, "within 60 seconds"),
        (certificate(), CertificateRejected, "hostname mismatch"),
    ],
)
def test_what_another_try_cannot_help_ends_at_once(outcome: Reply | Failure, kind: type, part: str) -> None:
    course = Course([outcome])
    assert type(course.error) is kind and part in str(course.error)
    assert len(course.sends) == 1


@pytest.mark.parametrize(
    ("outcome", "kind", "part"),
    [
        (REFUSED, ConnectionFailed, "No connection to https://host.example:8000: refused."),
        (failure(httpx2.ConnectTimeout, "timed out"), ConnectionFailed, "No connection"),
        (RESET, ConnectionFailed, "ended before an answer came"),
        (failure(httpx2.RemoteProtocolError, "illegal status line"), BrokenAnswer, "no HTTP"),
        (failure(httpx2.RemoteProtocolError, "incomplete message body", began=True), BrokenAnswer, "broke off"),
        (failure(httpx2.ReadError, "", began=True), BrokenAnswer, "broke off: readerror"),
        (failure(httpx2.DecodingError, "bad gzip", began=True), BrokenAnswer, "bad gzip"),
    ],
)
def test_each_failure_is_one_sentence(outcome: Failure, kind: type, part: str) -> None:
    error = Course([outcome], retries=NO_RETRIES).error
    assert type(error) is kind and part in str(error) and "\n" not in str(error)
    assert error is not None and error.__cause__ is outcome.error


def test_nothing_is_tried_again_where_nothing_is_to_be() -> None:
    for outcome in (BUSY, AWAY, REFUSED):
        course = Course([outcome], retries=NO_RETRIES)
        assert course.error is not None and len(course.sends) == 1


def test_refusals_may_be_counted_too() -> None:
    assert len(Course([AWAY], retries=Retries(refusals=4)).sends) == 5


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b'{"models": 1}', b"\xff"])
def test_an_answer_of_another_program(body: bytes) -> None:
    with pytest.raises(BrokenAnswer, match="not one of a dynrefer service"):
        read(Reply(200, {}, body), lambda document: [each["name"] for each in document["models"]])


def test_a_member_that_an_answer_lacks_is_named() -> None:
    with pytest.raises(BrokenAnswer, match="it has no 'models'"):
        read(Reply(200, {}, b"{}"), lambda document: document["models"])
