"""Images behind Label Studio's host and token: a small server stands in for it."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.integrations.label_studio.images import LabelStudio
from dynrefer.service.settings import SettingsError, load_settings
from tests.service.conftest import ApiFactory, image_bytes

IMAGE = image_bytes()
PERSONAL = "head.body.signature"
LEGACY = "0123456789abcdef"


class Stand(http.server.ThreadingHTTPServer):
    """Label Studio's part in it. valid: the authorization that it accepts. asked: every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.valid = "Bearer access-1"
        self.bought = 0
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Stand

    def do_GET(self) -> None:
        given = self.headers.get("authorization")
        self.server.asked.append((self.path, given))
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.end_headers()
        elif given != self.server.valid:
            self._send(401, b"{}")
        elif "missing" in self.path:
            self._send(404, b"{}")
        else:
            self._send(200, IMAGE)

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.path.endswith("/api/token/refresh/")
        if sent != {"refresh": PERSONAL}:
            self._send(401, b'{"detail": "no"}')
            return
        self.server.bought += 1
        self._send(200, json.dumps({"access": f"access-{self.server.bought}"}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def stand() -> Iterator[Stand]:
    with Stand() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetched(source: LabelStudio, image: str, times: int = 1, project: str = "1", caller: str | None = None) -> bytes:
    async def work() -> bytes:
        buffer = Buffer(1 << 20)
        address = source.address_of(image)
        assert address is not None
        for _ in range(times):
            with buffer.lease(caller) as lease:
                found = await source.fetch(address, project, lease)
                assert buffer.held_bytes == len(found)
        return found

    return asyncio.run(work())


def source_at(stand: Stand, token: str | None = PERSONAL, max_bytes: int = 1 << 20) -> LabelStudio:
    return LabelStudio(stand.url, token, max_bytes, 5.0)


def test_a_personal_access_token_buys_one_that_lives_for_minutes(stand: Stand) -> None:
    source = source_at(stand)
    assert fetched(source, "/data/upload/1/a b.png", times=2) == IMAGE
    assert stand.bought == 1 and stand.asked == [("/data/upload/1/a%20b.png", "Bearer access-1")] * 2
    stand.valid = "Bearer access-2"  # the first has expired
    assert fetched(source, f"{stand.url}/data/upload/1/a.png") == IMAGE
    assert stand.bought == 2


def test_a_legacy_token_is_sent_as_it_is(stand: Stand) -> None:
    stand.valid = f"Token {LEGACY}"
    assert fetched(source_at(stand, LEGACY), "/data/local-files/?d=a/b.png") == IMAGE


def test_a_projects_token_counts_only_of_this_label_studio_and_without_one_in_the_settings(stand: Stand) -> None:
    stand.valid = f"Token {LEGACY}"
    source = source_at(stand, None)
    source.learn_token(None, "1", "http://elsewhere:8080", LEGACY)
    with pytest.raises(InvalidRequestError, match="wants a token"):
        fetched(source, "/a.png")
    source.learn_token(None, "1", stand.url, LEGACY)
    assert fetched(source, "/a.png") == IMAGE
    with pytest.raises(InvalidRequestError, match="wants a token"):
        fetched(source, "/a.png", project="2")
    given = source_at(stand, "another")
    given.learn_token(None, "1", stand.url, LEGACY)
    with pytest.raises(InvalidRequestError, match="does not accept the token"):
        fetched(given, "/a.png")


def test_a_projects_token_counts_only_for_the_key_that_brought_it(stand: Stand) -> None:
    stand.valid = f"Token {LEGACY}"
    source = source_at(stand, None)
    source.learn_token("mine", "1.1764230400", stand.url, LEGACY)  # /setup and /predict say when it was made too
    assert fetched(source, "/a.png", project="1.1764230400", caller="mine") == IMAGE
    assert fetched(source, "/a.png", project="1", caller="mine") == IMAGE
    for caller in ("yours", None):
        with pytest.raises(InvalidRequestError, match="wants a token"):
            fetched(source, "/a.png", caller=caller)


@pytest.mark.parametrize(
    ("image", "token", "said"),
    [
        ("/missing.png", PERSONAL, "status 404"),
        ("/elsewhere", PERSONAL, "status 302"),
        ("/a.png", "one.two.three", "does not accept the token"),
        ("/a.png", None, "wants a token"),
    ],
)
def test_what_cannot_be_had_is_said(stand: Stand, image: str, token: str | None, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        fetched(source_at(stand, token), image)


def test_a_large_image_and_a_silent_host(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BodyTooLargeError, match="larger than 10 bytes"):
        fetched(source_at(stand, max_bytes=10), "/a.png")
    with pytest.raises(InvalidRequestError, match="cannot be reached") as refused:
        fetched(LabelStudio("http://127.0.0.1:9", None, 10, 2.0), "/a.png")
    assert "127.0.0.1" not in refused.value.detail and "http://127.0.0.1:9/" in caplog.text


@pytest.mark.parametrize(
    "image",
    [
        "http://127.0.0.2/a.png",
        "https://127.0.0.1/a.png",
        "http://127.0.0.1:1/a.png",
        "//127.0.0.1/a.png",
        "http://127.0.0.1@evil.example/a.png",
        "http://evil.example#@127.0.0.1/",
        "http://127.0.0.1\\@evil.example/",
        "file:///etc/passwd",
        "s3://bucket/a.png",
        "a.png",
        "http://[",
        "/a\r\nHost: evil",
        "/ä.png",
    ],
)
def test_nothing_leads_elsewhere(image: str) -> None:
    assert LabelStudio("http://127.0.0.1:8080", None, 10, 1.0).address_of(image) is None


def test_a_path_prefix_is_kept() -> None:
    source = LabelStudio("https://example.org/labels", None, 10, 1.0)
    assert source.address_of("/data/upload/a.png") == "https://example.org/labels/data/upload/a.png"
    assert source.address_of("/labels/data/upload/a.png") == "https://example.org/labels/data/upload/a.png"
    assert source.address_of("https://example.org:443/labels/x.png") == "https://example.org:443/labels/x.png"


OUTSIDE = [
    "/labels/../admin",
    "/labels/a/../../admin",
    "/../admin",
    "/labels/%2e%2e/admin",
    "/labels/..%2Fadmin",
    "/labels/%252e%252e/admin",
    "/labels/%5c../admin",
    "https://example.org/admin",
    "https://example.org/labels",
    "https://example.org/labels/../admin",
    "https://me@example.org/labels/a.png",
]


@pytest.mark.parametrize("image", OUTSIDE)
def test_nothing_leads_out_of_the_prefix(image: str) -> None:
    assert LabelStudio("https://example.org/labels", None, 10, 1.0).address_of(image) is None


@pytest.mark.parametrize("image", ["/http://169.254.169.254/latest", "/https://evil.example/a.png", "/labels///evil/a"])
def test_an_address_in_a_path_stays_a_path(stand: Stand, image: str) -> None:
    source = LabelStudio(f"{stand.url}/labels", PERSONAL, 1 << 20, 5.0)
    assert fetched(source, image) == IMAGE
    assert stand.asked == [(f"/labels/{image.removeprefix('/labels')[1:]}", "Bearer access-1")]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/labels/a.png", "//127.0.0.1:9/a.png", "/admin"])
def test_no_token_goes_elsewhere_whoever_asks(stand: Stand, address: str) -> None:
    stand.valid = f"Token {LEGACY}"
    whole = f"{stand.url}{address}" if address == "/admin" else address

    async def work() -> None:
        with Buffer(1 << 20).lease() as lease:
            await LabelStudio(f"{stand.url}/labels", LEGACY, 1 << 20, 5.0).fetch(whole, "1", lease)

    with pytest.raises(InvalidRequestError, match="is not on Label Studio"):
        asyncio.run(work())
    assert not stand.asked


def test_an_image_is_fetched_and_described(make_api: ApiFactory, stand: Stand) -> None:
    settings = {"label_studio_url": stand.url, "label_studio_token": PERSONAL}
    api = make_api(integrations="label-studio", **settings)
    config = '<View><Image name="image" value="$image"/><TextArea name="words" toName="image"/></View>'
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/a.png"}}]
    document = {"tasks": tasks, "project": "1.2", "label_config": config}
    (found,) = api.client.post("/label-studio/predict", json=document).json()["results"]
    assert found["result"][0]["value"] == {"text": ["pixel 10 20 30"]}


def test_the_address_is_checked_and_the_token_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="--label-studio-url"):
        load_settings({"label_studio_url": "ftp://label-studio"})
    monkeypatch.setenv("DYNREFER_LABEL_STUDIO_TOKEN", PERSONAL)
    settings = load_settings({"label_studio_url": "http://label-studio:8080"})
    assert PERSONAL not in repr(settings)
