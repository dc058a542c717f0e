"""Behind a proxy that puts a path prefix before the service: every address that the pages name leads back to it."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import pytest

from dynrefer.service.playground import HERE
from tests.service.conftest import ApiClient, ApiFactory
from tests.service.server.test_process import REQUEST, Server, running

POSTED = {
    "/v1/describe": REQUEST,
    "/v1/detect": {"image": REQUEST["image"], "names": ["dog"]},
    "/v1/converse": {"image": REQUEST["image"], "messages": [{"role": "user", "content": "What is it?"}]},
}
HREF = re.compile(r'(?:href|src)="([^"]+)"')
IN_SCRIPT = re.compile(r'(?:(?:fetch|new URL)\(|(?="v1/))"([^"]+)"')
IN_STYLE = re.compile(r"url\(['\"]?((?!data:)[^)'\"]+)")


class StrippingProxy:
    """Forwards PREFIX/path to the service as /path, on a connection each, and everything else to nowhere."""

    def __init__(self, upstream: str, prefix: str, strip: bool = True) -> None:
        self.upstream, self.prefix, self.strip = urlsplit(upstream), prefix, strip

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path, _ = (await reader.readline()).decode().split()
        if path.startswith(self.prefix + "/"):
            target = path.removeprefix(self.prefix) if self.strip else path
            assert self.upstream.hostname and self.upstream.port
            up_reader, up_writer = await asyncio.open_connection(self.upstream.hostname, self.upstream.port)
            up_writer.write(f"{method} {target} HTTP/1.1\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n".encode())
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """urllib, the client, says Connection: close: whichever side ends first ends both."""
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()


def fetch(url: str, document: object = None) -> tuple[int, str]:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.url == url  # no redirect
            return response.status, response.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@asynccontextmanager
async def proxied(server: Server, strip: bool) -> AsyncIterator[str]:
    proxy = await asyncio.start_server(StrippingProxy(server.address, "/region", strip), "127.0.0.1", 0)
    async with proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/region/"


def addresses(page: str, text: str) -> Iterator[str]:
    """What a page loads, with the addresses in its scripts and styles. Scripts mean addresses relative to the page."""
    for reference in HREF.findall(text):
        yield urljoin(page, reference)
    for script in re.findall(r'src="static/(\w+\.js)"', text):
        for reference in IN_SCRIPT.findall((HERE / "static" / script).read_text(encoding="utf-8")):
            yield urljoin(page, reference)
    for style in re.findall(r'href="(static/[\w/-]+\.css)"', text):
        for reference in IN_STYLE.findall((HERE / style).read_text(encoding="utf-8")):
            yield urljoin(urljoin(page, style), reference)


async def visit(base: str) -> None:
    """Fetch the pages, what they name and what the document of the API leads to."""
    seen = set()
    for page in (base, base + "docs", base + "redoc"):
        status, text = await asyncio.to_thread(fetch, page)
        assert status == 200
        for address in addresses(page, text):
            assert address.startswith(base), address
            status, _ = await asyncio.to_thread(fetch, address)
            assert status == (405 if address.endswith(("v1/describe", "v1/detect", "v1/converse")) else 200), address
            seen.add(address.removeprefix(base))
    assert {"v1/models", "v1/describe", "v1/detect", "openapi.json", "docs", "static/playground.js"} <= seen
    document = json.loads((await asyncio.to_thread(fetch, base + "openapi.json"))[1])
    (root,) = (urljoin(base + "openapi.json", each["url"]).rstrip("/") for each in document["servers"])
    for path in document["paths"]:
        address = root + path.replace("{name}", "coco")
        described = await asyncio.to_thread(fetch, address, POSTED.get(path))
        # The fake model has neither finder nor converser, and says so.
        assert described[0] == (422 if path in ("/v1/detect", "/v1/converse") else 200), path


@pytest.mark.server
@pytest.mark.parametrize("strip", [True, False])
def test_every_address_leads_back_through_the_proxy(strip: bool) -> None:
    settings = {} if strip else {"DYNREFER_ROOT_PATH": "/region"}

    async def scene(server: Server) -> None:
        async with proxied(server, strip) as base:
            await visit(base)

    with running("tests.serve_fake", **settings) as server:
        server.await_ready()
        asyncio.run(scene(server))


def test_a_prefix_that_the_proxy_leaves_in(make_api: ApiFactory) -> None:
    api: ApiClient = make_api(root_path="/region", api_keys="sesame")
    key = {"authorization": "Bearer sesame"}
    for path in ("/livez", "/region/livez", "/region/readyz"):
        assert api.client.get(path).status_code == 200
    for path in ("/docs", "/region/docs", "/region/static/icon.svg"):
        assert api.client.get(path).status_code == 200
    for path in ("/v1/models", "/region/v1/models"):
        assert api.client.get(path).status_code == 401
        assert api.client.get(path, headers=key).status_code == 200
    for path in ("/region", "/regional/livez", "/other/livez", "/region/region/livez"):
        assert api.client.get(path, headers=key).status_code == 404
