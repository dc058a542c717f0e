"""Another service that answers questions, over real connections: answers, failures, deadlines, who leaves, keys."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from dynrefer.model import ConverseTurn, Spoken
from dynrefer.service.context import RequestContext
from dynrefer.service.conversing.upstream import Upstream, open_upstream
from dynrefer.service.errors import DeadlineExceeded, UnavailableError, UpstreamError
from dynrefer.service.settings import Settings, SettingsError, load_settings
from tests.service.conftest import ApiFactory, image_bytes, in_base64
from tests.service.conversing.chat_server import ChatServer, standing
from tests.service.conversing.test_chat import turn

KEY = "sk-secret-key"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with standing(ChatServer()) as found:
        yield found


def context(timeout_s: float = 20.0) -> RequestContext:
    now = time.monotonic()
    return RequestContext("some-id", None, timeout_s, now + timeout_s, time.perf_counter())


def asked(of: Upstream, given: ConverseTurn | None = None, timeout_s: float = 20.0) -> list[Spoken]:
    """All that is said."""

    async def all_of_it() -> list[Spoken]:
        return [each async for each in _pieces(of, given, timeout_s)]

    return asyncio.run(all_of_it())


def _pieces(of: Upstream, given: ConverseTurn | None = None, timeout_s: float = 20.0) -> Any:
    given = given or turn()
    return of.pieces(given, given.conversation, context(timeout_s))


def test_an_answer_comes_in_pieces_that_stay(server: ChatServer) -> None:
    server.gap_s = 0.05
    pieces = asked(Upstream(server.url, "some/model", KEY))
    assert [each.done for each in pieces[:-1]] == [False] * (len(pieces) - 1) and pieces[-1].done
    assert len(pieces) >= 3
    whole = pieces[-1].reply
    assert whole.content == "It is the dog there." and whole.tokens == 3
    assert [(each.span, each.box) for each in whole.grounding] == [((6, 13), (10.0, 0.0, 40.0, 60.0))]
    assert all(whole.content.startswith(each.reply.content[: each.stable]) for each in pieces)
    head, document = server.requests[0]
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}" in head.lower() and "x-request-id: some-id" in head.lower()
    assert document["model"] == "some/model"


def test_without_a_key_none_is_sent(server: ChatServer) -> None:
    asked(Upstream(server.url, "m"))
    assert "authorization" not in server.requests[0][0].lower()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: ChatServer, status: int) -> None:
    server.status, server.headers = status, {"Location": f"{server.url}/chat/completions"}
    with pytest.raises(UpstreamError, match="redirects"):
        asked(Upstream(server.url, "m", KEY))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502])
def test_a_status_that_is_no_success_is_an_error_of_the_other_service(server: ChatServer, status: int) -> None:
    server.status = status
    with pytest.raises(UpstreamError, match=f"the status {status}"):
        asked(Upstream(server.url, "m"))


@pytest.mark.parametrize(("status", "wait", "told"), [(429, "7", 7), (503, "x", 1), (429, "9999", 60)])
def test_a_service_at_its_limit_is_asked_later(server: ChatServer, status: int, wait: str, told: int) -> None:
    server.status, server.headers = status, {"Retry-After": wait}
    with pytest.raises(UnavailableError) as caught:
        asked(Upstream(server.url, "m"))
    assert caught.value.retry_after_s == told


def test_an_answer_that_ends_in_the_middle_or_is_compressed_is_an_error(server: ChatServer) -> None:
    server.cut = True
    with pytest.raises(UpstreamError, match="before it was complete"):
        asked(Upstream(server.url, "m"))
    server.cut = False
    server.headers = {**server.headers, "Content-Encoding": "gzip"}
    with pytest.raises(UpstreamError, match="compressed"):
        asked(Upstream(server.url, "m"))
    server.headers, server.raw = {"Content-Type": "text/event-stream", "Content-Length": "50"}, b"data: {"
    with pytest.raises(UpstreamError, match="broke"):
        asked(Upstream(server.url, "m"))


def test_every_wait_ends_by_the_deadline(server: ChatServer) -> None:
    server.silent = True
    with pytest.raises(DeadlineExceeded):
        asked(Upstream(server.url, "m"), timeout_s=0.3)
    server.wait(lambda: server.left == 1)
    server.silent, server.said, server.gap_s = False, ["word "] * 1000, 0.05
    with pytest.raises(DeadlineExceeded):
        asked(Upstream(server.url, "m"), timeout_s=0.5)
    server.wait(lambda: server.left == 2)


def test_who_leaves_ends_the_call(server: ChatServer) -> None:
    server.said, server.gap_s = ["word "] * 1000, 0.02

    async def first_piece() -> None:
        async with aclosing(_pieces(Upstream(server.url, "m"))) as pieces:
            await anext(pieces)

    asyncio.run(first_piece())
    server.wait(lambda: server.left == 1)


class Clock:
    """now: seconds, of a breaker."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def failed(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> tuple[Upstream, Clock]:
    """A service whose first call has failed, and what its breaker takes for the time."""
    of, clock = Upstream(server.url, "m"), Clock()
    monkeypatch.setattr(of._breaker, "_clock", clock)
    server.status = 500
    with pytest.raises(UpstreamError):
        asked(of)
    return of, clock


def test_calls_that_fail_open_the_breaker_and_one_that_succeeds_closes_it(
    server: ChatServer, failed: tuple[Upstream, Clock]
) -> None:
    of, clock = failed
    with pytest.raises(UnavailableError) as caught:  # nobody is asked
        asked(of)
    assert caught.value.retry_after_s >= 1 and len(server.requests) == 1
    clock.now, server.status = 1e9, 200
    assert asked(of)[-1].done and asked(of)[-1].done
    # A refusal shows that it is there.
    server.status = 404
    for _ in range(5):
        with pytest.raises(UpstreamError):
            asked(of)
    assert len(server.requests) == 8


def test_a_probe_that_nobody_waits_for_lets_another_one_through_later(
    server: ChatServer, failed: tuple[Upstream, Clock]
) -> None:
    of, clock = failed
    clock.now, server.silent, server.status = 1e6, True, 200
    with pytest.raises(DeadlineExceeded):
        asked(of, timeout_s=0.2)
    clock.now, server.silent = 1e9, False
    assert asked(of)[-1].done


class Refusing(httpcore2.AsyncNetworkBackend):
    """The first connections are refused."""

    def __init__(self, refused: int) -> None:
        self.refused, self.tried = refused, 0

    async def connect_tcp(self, host: str, port: int, **options: Any) -> httpcore2.AsyncNetworkStream:
        self.tried += 1
        if self.tried <= self.refused:
            raise httpcore2.ConnectError
        return await httpcore2.AnyIOBackend().connect_tcp(host, port, **options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def test_a_connection_that_is_refused_is_tried_once_more(server: ChatServer) -> None:
    once, always = Refusing(1), Refusing(99)
    assert asked(Upstream(server.url, "m", backend=once))[-1].done and once.tried == 2
    with pytest.raises(UnavailableError, match="cannot be reached"):
        asked(Upstream(server.url, "m", backend=always))
    assert always.tried == 2 and len(server.requests) == 1


def test_a_service_that_is_not_there_is_said() -> None:
    with standing(ChatServer()) as gone:
        url = gone.url
    with pytest.raises(UnavailableError, match="cannot be reached"):
        asked(Upstream(url, "m"))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"converser_url": "ftp://host/v1"}, "no address of the web"),
        ({"converser_url": "http://"}, "no address of the web"),
        ({"converser_url": "http://user:hunter2@host/v1"}, "converser_url_key_file"),
        ({"converser_url": "http://host/v1?key=1"}, "behind the path"),
        ({"converser_url": "http://host:99999/v1"}, "no URL"),
        ({"converser_url": "http://host/v1"}, "needs converser_url_model"),
        ({"converser_url_model": "m"}, "which converser_url names"),
        (
            {"converser_url": "http://host/v1", "converser_url_model": "m", "converser": "somewhere"},
            "leave one of them",
        ),
    ],
)
def test_settings_that_name_no_service_are_refused(
    given: dict[str, str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(given)
    assert part in str(caught.value) and "hunter2" not in str(caught.value)
    for name, value in given.items():
        monkeypatch.setenv(f"DYNREFER_{name.upper()}", value)
    with pytest.raises(SettingsError, match=part):
        load_settings()


def test_the_key_comes_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: dict[str, Any] = {"converser_url": "http://host/v1/", "converser_url_model": "m"}
    assert open_upstream(Settings()) is None
    monkeypatch.setenv("DYNREFER_CONVERSER_URL_KEY", KEY)
    found = open_upstream(Settings(**named))
    assert found is not None and (found._key, found._url) == (KEY, "http://host/v1/chat/completions")
    assert KEY not in repr(Settings(**named))
    monkeypatch.delenv("DYNREFER_CONVERSER_URL_KEY")
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    settings = Settings(**named, converser_url_key_file=path)
    found = open_upstream(settings)
    assert found is not None and found._key == KEY
    for bad in (b"", b"two words", b"line\nline", "schlüssel".encode()):
        path.write_bytes(bad)
        with pytest.raises(SettingsError, match="converser_url_key_file"):
            open_upstream(settings)
    path.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        open_upstream(settings)


def test_over_http_the_other_service_answers_and_the_region_model_verifies(
    server: ChatServer, make_api: ApiFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = make_api(converser_url=server.url, converser_url_model="m", converser_url_key=KEY)
    document = {
        "image": {"base64": in_base64(image_bytes())},
        "regions": [{"id": "a", "box": [8, 0, 32, 48]}],
        "messages": [{"role": "user", "content": "What is <region:a>?"}],
    }
    answer = api.client.post("/v1/converse", json=document)
    assert answer.status_code == 200
    message = answer.json()["message"]
    assert message["content"] == "It is the dog there."
    (span,) = message["grounding"]
    assert (span["span"], span["box"], span["region"]) == ([6, 13], [8.0, 0.0, 32.0, 48.0], "a")
    assert "[125, 0, 500, 1000]" in str(server.last["messages"])
    assert api.client.get("/v1/models").json()["models"][0]["capabilities"]["conversation"] is True
    server.status = 401
    refused = api.client.post("/v1/converse", json=document)
    assert refused.status_code == 502 and refused.json()["type"].endswith(":upstream-failed")
    server.status, server.headers = 429, {"Retry-After": "3"}
    busy = api.client.post("/v1/converse", json=document)
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "3")
    server.silent = True
    late = api.client.post("/v1/converse", json=document, headers={"X-Request-Timeout": "0.5"})
    assert late.status_code == 504
    assert KEY not in caplog.text and KEY not in refused.text


def test_over_http_the_answer_is_streamed_as_it_comes(server: ChatServer, make_api: ApiFactory) -> None:
    api = make_api(converser_url=server.url, converser_url_model="m")
    server.gap_s = 0.05
    document = {
        "image": {"base64": in_base64(image_bytes())},
        "messages": [{"role": "user", "content": "What is this?"}],
        "stream": True,
    }
    answer = api.client.post("/v1/converse", json=document)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("event: delta") >= 2 and "event: done" in answer.text
    assert "<box>" not in answer.text
    server.cut = True
    failed = api.client.post("/v1/converse", json=document)
    assert (
        failed.status_code == 200 and "event: error" in failed.text and '"status":502' in failed.text.replace(" ", "")
    )
