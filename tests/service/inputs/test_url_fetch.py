"""Image URLs: what is fetched, what is refused, and that the checked address is the one that is dialled.

A real HTTPS server stands on this machine; a resolver of our own gives names public addresses, and a dialler of our
own leads those to the server.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpcore2
import pytest
import trustme

from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError, QueueFullError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.inputs.public_addresses import is_public
from dynrefer.service.inputs.url_fetch import Fetcher, resolve
from dynrefer.service.inputs.url_fetch import dial as really_dial
from tests.service.conftest import ApiFactory, field_errors, image_bytes, one_region

HOST, OTHER = "images.example.org", "other.example.org"
PUBLIC = "93.184.215.14"
MAX_BYTES = 100_000
AUTHORITY = trustme.CA()
LEASE = Buffer(10**9).lease()


class Site:
    """responses: path -> (status, headers, body). requested: the paths of the requests. dialled: the addresses."""

    def __init__(self) -> None:
        self.responses: dict[str, tuple[int, dict[str, str], bytes]] = {"/a.png": (200, {}, image_bytes())}
        self.names: dict[str, list[str]] = {HOST: [PUBLIC], OTHER: [PUBLIC]}
        self.requested: list[str] = []
        self.dialled: list[str] = []
        self.trickle_s = 0.0
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            self.requested.append(path)
            status, headers, body = self.responses.get(path, (404, {}, b""))
            lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
            for start in range(0, len(body), 1_000):
                writer.write(body[start : start + 1_000])
                await writer.drain()
                await asyncio.sleep(self.trickle_s)
            writer.close()

    async def resolve(self, host: str, port: int) -> list[str]:
        return self.names[host]

    async def dial(self, address: str, port: int, timeout_s: float | None) -> httpcore2.AsyncNetworkStream:
        self.dialled.append(address)
        return await really_dial("127.0.0.1", self.port, timeout_s)

    def fetcher(self, timeout_s: float = 20.0) -> Fetcher:
        trust = ssl.create_default_context()
        AUTHORITY.configure_trust(trust)
        return Fetcher([HOST, OTHER], MAX_BYTES, timeout_s, self.resolve, self.dial, trust)


@contextlib.asynccontextmanager
async def standing(site: Site) -> AsyncIterator[None]:
    identity = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(HOST, OTHER).configure_cert(identity)
    server = await asyncio.start_server(site.handle, "127.0.0.1", 0, ssl=identity)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()


def fetched(site: Site, url: str, **options: Any) -> bytes:
    async def scene() -> bytes:
        async with standing(site):
            return await site.fetcher(**options).fetch(url, LEASE)

    return asyncio.run(scene())


def refused(site: Site, url: str, **options: Any) -> str:
    with pytest.raises(InvalidRequestError) as error:
        fetched(site, url, **options)
    assert [field.pointer for field in error.value.fields] == ["/image/url"]
    return error.value.detail


def test_an_allowed_host_is_fetched_at_the_checked_address() -> None:
    site = Site()
    assert fetched(site, f"https://{HOST}/a.png") == image_bytes()
    assert site.dialled == [PUBLIC] and site.requested == ["/a.png"]


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/a.png",
        "file:///etc/passwd",
        "ftp://images.example.org/a.png",
        "//images.example.org/a.png",
        "data:image/png;base64,AAAA",
        "http://127.0.0.1/a.png",
        "https://127.0.0.1/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://localhost/",
        "https://elsewhere.example.org/a.png",
        f"https://{HOST}.evil.example/a.png",
        f"https://{HOST}@evil.example/a.png",
        f"https://evil.example#@{HOST}/",
        f"https://evil.example\\@{HOST}/",
        f"https://user:password@{HOST}/a.png",
        f"https://{HOST}:8443/a.png",
        f"https://{HOST}:x/a.png",
        f"https://{HOST}/a b.png",
        f"https://{HOST}/a\r\nX: y",
        f"https://{HOST}./a.png",
        "https://[::1/",
        "",
    ],
)
def test_other_urls_are_not_even_dialled(url: str) -> None:
    site = Site()
    refused(site, url)
    assert site.dialled == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "2130706433",
    ],
)  # fmt: skip
def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    assert not is_public(address)
    site = Site()
    site.names[HOST] = [PUBLIC, address]  # one bad address is enough
    assert "public internet" in refused(site, f"https://{HOST}/a.png")
    assert site.dialled == []


def test_the_system_resolver_reads_every_notation_of_an_address() -> None:
    # Such hosts cannot be allowed; were one to be, the resolver's answer is what is checked.
    for host in ("localhost", "127.1", "2130706433", "0177.0.0.1"):
        assert not any(map(is_public, asyncio.run(resolve(host, 443))))


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        f"http://{HOST}/a.png",
        "https://elsewhere.example.org/a.png",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_is_checked_like_the_first_url(target: str) -> None:
    site = Site()
    site.responses["/go"] = (302, {"Location": target}, b"")
    refused(site, f"https://{HOST}/go")
    assert site.requested == ["/go"]


def test_a_redirect_to_a_name_that_has_moved_inside_is_refused() -> None:
    site = Site()
    site.names[OTHER] = ["10.0.0.1"]
    site.responses["/go"] = (301, {"Location": f"https://{OTHER}/a.png"}, b"")
    assert "public internet" in refused(site, f"https://{HOST}/go")
    assert site.dialled == [PUBLIC]


def test_redirects_are_followed_a_few_times() -> None:
    site = Site()
    site.responses["/go"] = (307, {"Location": "/a.png"}, b"")
    site.responses["/round"] = (302, {"Location": f"https://{OTHER}/round"}, b"")
    assert fetched(site, f"https://{HOST}/go") == image_bytes()
    assert "redirects more than" in refused(site, f"https://{HOST}/round")


def test_bytes_are_bounded() -> None:
    site = Site()
    site.responses["/a.png"] = (200, {}, bytes(MAX_BYTES + 1))
    with pytest.raises(BodyTooLargeError):
        fetched(site, f"https://{HOST}/a.png")
    site.responses["/a.png"] = (200, {}, bytes(MAX_BYTES))
    assert len(fetched(site, f"https://{HOST}/a.png")) == MAX_BYTES


@pytest.mark.parametrize("declared", [True, False])
def test_bytes_count_in_the_lease(declared: bool) -> None:
    site, buffer = Site(), Buffer(150_000, 90_000)
    site.responses["/a.png"] = (200, {"Content-Length": "80000"} if declared else {}, bytes(80_000))

    async def scene() -> None:
        async with standing(site):
            with buffer.lease("one") as lease:
                assert len(await site.fetcher().fetch(f"https://{HOST}/a.png", lease)) == buffer.held_bytes == 80_000
                for key, part in (("one", "one key"), ("two", "as it can hold")):
                    with buffer.lease(key) as other, pytest.raises(QueueFullError, match=part):
                        await site.fetcher().fetch(f"https://{HOST}/a.png", other)
            assert buffer.held_bytes == 0

    asyncio.run(scene())


def test_time_is_bounded_as_a_whole() -> None:
    site = Site()
    site.responses["/a.png"], site.trickle_s = (200, {}, bytes(50_000)), 0.2  # each read is quick, all of them are not
    assert "within 1 seconds" in refused(site, f"https://{HOST}/a.png", timeout_s=1)


@pytest.mark.parametrize(
    ("status", "headers", "part"),
    [(404, {}, "status 404"), (500, {}, "status 500"), (200, {"Content-Encoding": "gzip"}, "compressed")],
)
def test_what_the_site_says(status: int, headers: dict[str, str], part: str) -> None:
    site = Site()
    site.responses["/a.png"] = (status, headers, b"x")
    assert part in refused(site, f"https://{HOST}/a.png")


def test_failures_are_one_sentence() -> None:
    site = Site()
    site.names = {HOST: [PUBLIC]}
    distrusting = Fetcher([HOST], MAX_BYTES, 20, site.resolve, site.dial, ssl.create_default_context())

    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def scene() -> None:
        async with standing(site):
            for fetcher in (distrusting, Fetcher([HOST], MAX_BYTES, 20, unknown, site.dial)):
                with pytest.raises(InvalidRequestError, match="could not be fetched from this URL"):
                    await fetcher.fetch(f"https://{HOST}/a.png", LEASE)

    asyncio.run(scene())


@pytest.fixture
def site() -> Iterator[Site]:
    """A site that stands in a thread of its own, for an application that runs in another."""
    found, ready, stop = Site(), threading.Event(), threading.Event()

    async def stand() -> None:
        async with standing(found):
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(stand(),))
    thread.start()
    assert ready.wait(10)
    yield found
    stop.set()
    thread.join()


def test_the_route_fetches_where_it_is_allowed(make_api: ApiFactory, site: Site) -> None:
    api = make_api(image_url_hosts=HOST)
    api.client.app.state.fetcher = site.fetcher()  # type: ignore[attr-defined]
    url = f"https://{HOST}/a.png"
    assert api.json(image={"url": url}).json()["image"] == {"width": 64, "height": 48}
    assert field_errors(api.json(image={"url": "https://example.org/a.png"})).keys() == {"/image/url"}
    assert field_errors(api.json(image={"url": url, "base64": ""})).keys() == {"/image"}
    assert field_errors(api.json(image={"url": None})).keys() == {"/image/url"}
    assert field_errors(api.json(image={})).keys() == {"/image/base64"}
    site.responses["/a.png"] = (200, {}, b"hello")
    assert api.json(image={"url": url}).status_code == 415


def test_urls_are_off_by_default(make_api: ApiFactory) -> None:
    api = make_api()
    assert api.client.app.state.fetcher is None  # type: ignore[attr-defined]
    response = api.json(image={"url": "https://example.org/a.png"}, **one_region())
    assert response.status_code == 422 and "does not support 'url'" in field_errors(response)["/image/url"]
