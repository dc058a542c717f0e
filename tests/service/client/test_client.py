"""Both clients against a server that does what it is told: connections, certificates, half answers, many images."""

import asyncio
import gc
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from PIL import Image

from dynrefer import (
    AsyncClient,
    BrokenAnswer,
    CertificateRejected,
    Client,
    ClientError,
    ConnectionFailed,
    ProblemError,
    ServerTooSlow,
)
from dynrefer.model import Polygon
from dynrefer.service.client import Conflict, Forbidden, NotFound, NotReady, TooBusy, Unauthorized
from tests.service.client.asking import QUICK, Ask, ask_async_client, ask_client
from tests.service.client.scripted import (
    DESCRIBED,
    REGION,
    Received,
    answer,
    closed_url,
    hang,
    problem,
    raw,
    scripted,
    trickle,
    words,
)

AUTHORITY = trustme.CA()
BOX = [(1, 2, 3, 4)]
NOTHING_FOUND = {**DESCRIBED, "regions": [], "absent": []}
RELOADED = {"serving": {"model": "copy", "name": "a-copy", "revision": "1"}, "previous": "embedded", "ending": False}


@pytest.fixture(params=[ask_client, ask_async_client], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """ask(url, ...) calls a method, `describe` unless another is named, of a new client with these settings."""
    found: Ask = request.param
    return found


def test_a_request_and_its_answer(ask: Ask) -> None:
    with scripted(answer()) as server:
        (region,) = ask(server.url, b"image", BOX, "caption", settings={"key": "sesame", "headers": {"X-Trace": "7"}})
    assert region.caption.text == "a dog" and region.box == (1, 2, 3, 4)
    (received,) = server.received
    assert received.line == "POST /v1/describe HTTP/1.1"
    assert received.document == {"regions": [{"box": [1, 2, 3, 4]}], "task": ["caption"]}
    assert received.part("image") == b"image"
    assert received.headers["authorization"] == "Bearer sesame" and received.headers["x-trace"] == "7"
    assert 0 < float(received.headers["x-request-timeout"]) < 60


def test_a_prefix_that_a_proxy_puts_before_the_service(ask: Ask) -> None:
    with scripted(answer()) as server:
        for url in (server.url + "/region", server.url + "/region/"):
            ask(url, b"image", BOX)
    assert words(server.received) == ["POST /region/v1/describe"] * 2


@pytest.mark.parametrize(
    ("method", "arguments", "path", "document"),
    [
        ("detect", (b"image", ["dog"]), "POST /v1/detect", NOTHING_FOUND),
        ("models", (), "GET /v1/models", {"models": []}),
        ("vocabularies", (), "GET /v1/vocabularies", {"vocabularies": []}),
        ("is_ready", (), "GET /readyz", {"status": "ready"}),
        ("reload_model", ("copy",), "POST /v1/models/reload", RELOADED),
        ("reload_status", (), "GET /v1/models/reload", RELOADED),
    ],
)
def test_the_other_methods(ask: Ask, method: str, arguments: tuple[Any, ...], path: str, document: Any) -> None:
    with scripted(answer(document=document)) as server:
        ask(server.url, *arguments, method=method)
    assert words(server.received) == [path]


def test_another_model_is_asked_for_once_whatever_becomes_of_it(ask: Ask) -> None:
    with scripted(problem(503)) as server, pytest.raises(NotReady):
        ask(server.url, "copy", method="reload_model", unload_first=True)
    assert len(server.received) == 1
    assert server.received[0].document == {"model": "copy", "unload_first": True}
    with scripted(answer(document=RELOADED)) as server:
        status = ask(server.url, method="reload_model", previous=True)
    assert server.received[0].document == {"previous": True}
    assert 500 < float(server.received[0].headers["x-request-timeout"]) < 600
    assert (status.model, status.name, status.previous, status.loading) == ("copy", "a-copy", "embedded", None)
    with pytest.raises(ValueError, match="either a model or previous=True"):
        ask(closed_url(), method="reload_model")
    for status_code, kind in ((403, Forbidden), (409, Conflict)):
        with scripted(problem(status_code)) as server, pytest.raises(kind):
            ask(server.url, "copy", method="reload_model")


def test_a_service_that_is_not_ready(ask: Ask) -> None:
    with scripted(problem(503)) as server:
        assert ask(server.url, method="is_ready") is False
        assert len(server.received) == 1
    with pytest.raises(ConnectionFailed):
        ask(closed_url(), method="is_ready")


def test_nothing_is_asked_about_no_region(ask: Ask) -> None:
    assert ask(closed_url(), b"image", []) == []
    assert ask(closed_url(), b"image", [], on_region_error="report") == []


def test_an_option_of_one_call(ask: Ask) -> None:
    with scripted(answer()) as server:
        ask(server.url, b"image", BOX, timeout=7, request_id="mine")
    (received,) = server.received
    assert float(received.headers["x-request-timeout"]) < 7 and received.headers["x-request-id"] == "mine"


def test_regions_that_cannot_be_described_are_values_on_request(ask: Ask) -> None:
    failed = {"id": "1", "error": {"type": "t", "title": "T", "status": 422, "detail": "It is empty.", "errors": []}}
    with scripted(answer(document={**DESCRIBED, "regions": [REGION, failed]})) as server:
        regions = ask(server.url, b"image", BOX * 2, on_region_error="report")
    assert server.received[0].document["on_region_error"] == "report"
    assert regions[0].caption.text == "a dog" and isinstance(regions[1], ProblemError)
    assert regions.described == regions[:1]


def test_an_answer_remembers_its_image_and_draws_itself(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    polygon = Polygon(((1, 1, 6, 1, 6, 5),))
    with scripted(answer()) as server:
        for image in (path, path.read_bytes(), pixels, Image.open(path)):
            regions = ask(server.url, image, [polygon])
            assert "a dog" in regions._repr_html_() and regions.draw().size >= (8, 6)
            assert regions.preview.size == (8, 6)
        (many,) = ask(server.url, [(str(path), BOX)], method="describe_many")
        assert many.preview.source == path
        # Not remembered: large, elsewhere, in another frame, or of a format that only the service reads.
        (array,) = ask(server.url, [(pixels, BOX)], method="describe_many")
        elsewhere = ask(server.url, "https://a.example/a.png", BOX)
        turned = ask(server.url, path, BOX, orientation="stored")
        assert [each.preview for each in (array, elsewhere, turned)] == [None] * 3
        large = ask(server.url, b"unknown" * 50_000, BOX)
        assert large.preview is None and "a dog" in large._repr_html_()
    with scripted(answer(document=NOTHING_FOUND)) as server:
        assert ask(server.url, path, ["dog"], method="detect").draw().size >= (8, 6)


# Connections


def test_a_connection_is_used_again() -> None:
    with scripted(answer()) as server, Client(server.url) as client:
        for _ in range(3):
            client.describe(b"image", BOX)
    assert {each.connection for each in server.received} == {0}


def test_a_connection_of_an_async_client_is_used_again() -> None:
    async def run(url: str) -> None:
        async with AsyncClient(url) as client:
            for _ in range(3):
                await client.describe(b"image", BOX)

    with scripted(answer()) as server:
        asyncio.run(run(server.url))
    assert {each.connection for each in server.received} == {0}


def test_one_client_serves_several_threads() -> None:
    with scripted(answer()) as server, Client(server.url) as client:
        threads = [threading.Thread(target=client.describe, args=(b"image", BOX)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.received) == 8


@pytest.mark.filterwarnings("error")
def test_a_client_leaves_no_connection_open(ask: Ask) -> None:
    with scripted(answer()) as server:
        ask(server.url, b"image", BOX)
        gc.collect()
        until = time.monotonic() + 5
        while server.open_connections and time.monotonic() < until:
            time.sleep(0.005)
        assert server.open_connections == 0


def test_a_unix_socket(ask: Ask, tmp_path: Path) -> None:
    with scripted(answer(), unix=tmp_path / "service.sock") as server:
        settings = {"unix_socket": tmp_path / "service.sock"}
        assert len(ask("http://service", b"image", BOX, settings=settings)) == 1
    assert server.received[0].headers["host"] == "service"


# What goes wrong


def test_nobody_listens(ask: Ask) -> None:
    url = closed_url()
    with pytest.raises(ConnectionFailed) as caught:
        ask(url, b"image", BOX)
    assert str(caught.value) == f"No connection to {url}: connection refused. Is the service running at this address?"


def test_a_name_that_no_machine_has(ask: Ask) -> None:
    with pytest.raises(ConnectionFailed, match="No connection to http://nowhere.invalid:8000"):
        ask("http://nowhere.invalid:8000", b"image", BOX, timeout=5)


@pytest.mark.parametrize("slow", [hang, trickle])
def test_a_server_that_is_too_slow(ask: Ask, slow: Any) -> None:
    with scripted(slow) as server, pytest.raises(ServerTooSlow, match="within 0.3 seconds"):
        ask(server.url, b"image", BOX, timeout=0.3)
    assert len(server.received) == 1  # the service may be at work: it is not asked again


HEAD = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("half", [HEAD + b'{"id": "req_1"', CHUNKED + b'8\r\n{"id"'])
def test_half_an_answer(ask: Ask, half: bytes) -> None:
    with scripted(raw(half)) as server, pytest.raises(BrokenAnswer, match="broke off"):
        ask(server.url, b"image", BOX)
    with scripted(raw(half), answer()) as server:
        assert len(ask(server.url, b"image", BOX)) == 1
        assert len(server.received) == 2


def test_an_answer_that_is_not_packed_as_it_says(ask: Ask) -> None:
    packed = b"HTTP/1.1 200 X\r\ncontent-length: 4\r\ncontent-encoding: gzip\r\n\r\nabcd"
    with scripted(raw(packed)) as server, pytest.raises(BrokenAnswer, match="broke off"):
        ask(server.url, b"image", BOX)
    assert len(server.received) == 1


def test_a_connection_that_ends_without_an_answer(ask: Ask) -> None:
    with scripted(raw(b"")) as server, pytest.raises(ConnectionFailed, match="ended before an answer came"):
        ask(server.url, b"image", BOX)
    assert len(server.received) == 1 + QUICK.connections
    with scripted(raw(b""), answer()) as server:
        assert len(ask(server.url, b"image", BOX)) == 1


def test_what_is_no_http(ask: Ask) -> None:
    with scripted(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as server, pytest.raises(BrokenAnswer, match="is no HTTP"):
        ask(server.url, b"image", BOX)


def test_another_program(ask: Ask) -> None:
    with (
        scripted(answer(document=b"<html>It works!</html>")) as server,
        pytest.raises(BrokenAnswer, match="not one of"),
    ):
        ask(server.url, b"image", BOX)
    with (
        scripted(answer(404, b"<html>Not here</html>")) as server,
        pytest.raises(NotFound, match="is this the address"),
    ):
        ask(server.url, b"image", BOX)


def context_for(host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(host).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def test_a_certificate_of_an_authority_that_is_trusted(ask: Ask) -> None:
    with scripted(answer(), context=context_for("127.0.0.1")) as server:
        assert len(ask(server.url, b"image", BOX, settings={"verify": trusting()})) == 1
        assert len(ask(server.url, b"image", BOX, settings={"verify": False})) == 1


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", False), ("elsewhere.example", True)])
def test_a_wrong_certificate(ask: Ask, host: str, trusted: bool) -> None:
    with (
        scripted(answer(), context=context_for(host)) as server,
        pytest.raises(CertificateRejected, match="The certificate of https://127.0.0.1") as caught,
    ):
        ask(server.url, b"image", BOX, settings={"verify": trusting() if trusted else True})
    assert ("mismatch" if trusted else "issuer") in str(caught.value)
    assert isinstance(caught.value, ConnectionFailed) and server.received == []


# Refusals


def test_a_full_queue_is_waited_for(ask: Ask) -> None:
    with scripted(problem(429, retry_after="0"), problem(503), answer()) as server:
        assert len(ask(server.url, b"image", BOX)) == 1
    assert len(server.received) == 3
    assert {each.part("image") for each in server.received} == {b"image"}


def test_a_queue_that_stays_full(ask: Ask) -> None:
    with scripted(problem(429, "The queue is full.", retry_after="90")) as server, pytest.raises(TooBusy) as caught:
        ask(server.url, b"image", BOX)
    error = caught.value
    assert (error.retry_after, error.request_id, str(error)) == (90, "req_9", "The queue is full.")
    with scripted(problem(503)) as server, pytest.raises(NotReady):
        ask(server.url, b"image", BOX, timeout=0.2)
    assert len(server.received) > 2


def test_a_missing_key(ask: Ask) -> None:
    with scripted(problem(401, "Send a valid key.")) as server, pytest.raises(Unauthorized, match="Send a valid key."):
        ask(server.url, b"image", BOX)


# Settings


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_settings_that_cannot_be_used(kind: Any) -> None:
    for url in ("127.0.0.1:8000", "ftp://host", "http://", "http://host?x=1", "", 7):
        with pytest.raises(ValueError, match="not the address of a service"):
            kind(url)
    for key in ("", "two words", "a\nb", "schlüssel"):
        with pytest.raises(ValueError, match="key is not a key") as caught:
            kind(key=key)
        assert not key or key not in str(caught.value)
    for timeout in (0, -1, float("inf"), float("nan"), None, "3", True):
        with pytest.raises(ValueError, match="timeout is"):
            kind(timeout=timeout)
    assert repr(kind(key="sesame")) == f"{kind.__name__}('http://127.0.0.1:8000')"


def test_a_client_that_is_closed_says_so() -> None:
    client = Client(closed_url())
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.models()


# Many images


def echo(connection: Any, request: Received) -> bool:
    """An answer whose caption is the image's text; the text chooses how long it takes, or that it fails."""
    text = request.part("image").decode()
    if text.startswith("slow"):
        time.sleep(0.05)
    if text.startswith("bad"):
        return problem(422, f"{text} is no image.", {"pointer": "/image", "detail": "No image."})(connection, request)
    region = {**REGION, "caption": {"text": text, "score": 0.5, "logprob_sum": -1.0, "logprob_mean": -0.25}}
    return answer(document={**DESCRIBED, "regions": [region] * len(request.document["regions"])})(connection, request)


def test_many_images_keep_their_order_and_failures_are_values(ask: Ask, tmp_path: Path) -> None:
    images = [b"slow 0", (b"1", BOX * 2), b"bad 2", tmp_path / "none.png", b"slow 4", (b"5", [(1, 2)]), b"6"]
    with scripted(echo) as server:
        found = ask(server.url, images, "caption", method="describe_many", concurrency=3)
    texts = [
        [region.caption.text for region in each] if isinstance(each, list) else type(each).__name__ for each in found
    ]
    assert texts == [
        ["slow 0"], ["1", "1"], "ImageRefused", "FileNotFoundError", ["slow 4"], "BoxError", ["6"],
    ]  # fmt: skip
    assert isinstance(found[2], ClientError)
    assert 1 < server.most_at_once <= 3


def test_many_images_are_taken_from_a_generator_as_they_are_needed(ask: Ask) -> None:
    taken: list[int] = []

    def images() -> Iterator[bytes]:
        for number in range(20):
            taken.append(number)
            assert number <= len(server.received) + 4
            yield f"slow {number}".encode()

    with scripted(echo) as server:
        found = ask(server.url, images(), method="describe_many", concurrency=4)
    assert [each[0].caption.text for each in found] == [f"slow {number}" for number in range(20)]
    assert taken == list(range(20))


def test_no_image_at_all(ask: Ask) -> None:
    assert ask(closed_url(), [], method="describe_many") == []


def test_a_bar_is_drawn_on_request(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(echo) as server:
        ask(server.url, [b"1", b"2"], method="describe_many", progress=True)
        assert "2/2" in capsys.readouterr().err
        ask(server.url, [b"1", b"2"], method="describe_many")  # no terminal
        assert capsys.readouterr().err == ""


def test_what_is_wrong_with_all_images_is_raised(ask: Ask) -> None:
    with scripted(echo) as server:
        with pytest.raises(TypeError, match="'topk'"):
            ask(server.url, [b"1"] * 50, method="describe_many", topk=3)
        with pytest.raises(TypeError, match="write one image as"):
            ask(server.url, "image.png", method="describe_many")
        for concurrency in (0, 101, True, 2.0):
            with pytest.raises(ValueError, match="concurrency is"):
                ask(server.url, [b"1"], method="describe_many", concurrency=concurrency)
    assert server.received == []


def test_an_async_call_that_is_cancelled_closes_its_connection() -> None:
    async def run(url: str) -> None:
        async with AsyncClient(url) as client:
            call = asyncio.create_task(client.describe(b"image", BOX))
            while not server.received:
                await asyncio.sleep(0.005)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while server.open_connections:
                await asyncio.sleep(0.005)

    with scripted(hang) as server:
        asyncio.run(asyncio.wait_for(run(server.url), 20))


def test_a_redirect_is_not_followed_but_said(ask: Ask) -> None:
    elsewhere = "http://127.0.0.1:1/v1/describe"
    with scripted(answer(307, b"", location=elsewhere)) as server, pytest.raises(BrokenAnswer, match=elsewhere):
        ask(server.url, b"image", BOX)
    assert len(server.received) == 1
