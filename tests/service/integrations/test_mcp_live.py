"""The Model Context Protocol's own client against a running service with the embedded model."""

import asyncio
import base64
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ImageContent, TextContent

from tests.docs.examples import examples_of
from tests.repository import ROOT
from tests.service.conftest import in_base64
from tests.service.integrations.asked import IMAGE, tool_call
from tests.service.server.test_process import PATIENCE_S, Server, running

pytestmark = [pytest.mark.server, pytest.mark.system]

PHOTOGRAPH = in_base64((ROOT / "benchmarks" / "photographs" / "tourist.jpg").read_bytes())
PHONE = {"box": [308, 190, 401, 258]}
KEY = "sesame"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    flags = ["--integrations", "mcp", "--max-body-bytes", "2000000"]
    with running("dynrefer.service.cli", "serve", *flags, DYNREFER_API_KEYS=KEY) as found:
        found.await_ready()
        yield found


def asked(server: Server, what: Callable[[Client], Awaitable[Any]], mode: Any = "auto", key: str = KEY) -> Any:
    """What the client is asked, on a connection of its own. mode: which revisions of the protocol it speaks."""

    async def run() -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S) as http:
            transport = streamable_http_client(server.address + "/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await what(client)

    return asyncio.run(run())


def call(server: Server, name: str, mode: Any = "auto", **arguments: Any) -> CallToolResult:
    result: CallToolResult = asked(server, lambda client: client.call_tool(name, arguments), mode)
    return result


def text_of(result: CallToolResult) -> str:
    (text, *_) = result.content
    assert isinstance(text, TextContent)
    return text.text


def error_of(error: BaseException) -> BaseException:
    """The error inside of the groups that the client's tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# 2026-07-28, which asks first whether the server knows it; and the last revision with a handshake.
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_lists_and_calls_the_tools(server: Server, mode: str) -> None:
    async def everything(client: Client) -> tuple[list[str], CallToolResult, CallToolResult]:
        listed = [tool.name for tool in (await client.list_tools()).tools]
        # The client checks each result against the tool's schema of its output, and refuses one that differs.
        described = await client.call_tool("describe", {"image": {"base64": PHOTOGRAPH}, "regions": [PHONE]})
        found = await client.call_tool("detect", {"image": {"base64": PHOTOGRAPH}, "names": ["phone", "zebra"]})
        return listed, described, found

    listed, described, found = asked(server, everything, mode)
    assert listed == ["describe", "detect", "explain"]
    assert "a black cell phone" in text_of(described)
    assert described.structured_content["regions"][0]["caption"]["text"] == "a black cell phone"
    assert "phone, score" in text_of(found) and "not found: zebra" in text_of(found)
    assert [each["name"] for each in found.structured_content["absent"]] == ["zebra"]


def test_the_answer_is_that_of_the_services_own_contract(server: Server) -> None:
    document = {"image": {"base64": PHOTOGRAPH}, "regions": [PHONE]}
    status, own = server.post("/v1/describe", document, authorization=f"Bearer {KEY}")
    ours = call(server, "describe", **document).structured_content
    assert status == 200 and ours is not None
    for answer in (own, ours):
        answer["id"], answer["timings_ms"] = "", {}
        for region in answer["regions"]:
            region["timings_ms"] = {}
    assert ours == own


def test_explain_says_why_and_shows_the_views(server: Server) -> None:
    result = call(server, "explain", image={"base64": PHOTOGRAPH}, regions=[PHONE], thumbnails=True)
    assert "views looked at" in text_of(result) and "the noun 'cell phone'" in text_of(result)
    pictures = [each for each in result.content if isinstance(each, ImageContent)]
    (region,) = result.structured_content["regions"]
    views = region["explanation"]["views"]
    assert len(pictures) == len(views) and not any("thumbnail" in view for view in views)
    assert all(base64.b64decode(each.data)[8:12] == b"WEBP" for each in pictures)


def test_bad_arguments_are_a_result_that_says_so(server: Server) -> None:
    result = call(server, "describe", image={"base64": PHOTOGRAPH}, regions=[{"box": [9, 9, 1, 1]}])
    assert result.is_error and "/regions/0/box" in text_of(result)
    result = call(server, "describe", image={"url": "http://127.0.0.1:1/"})
    assert result.is_error and "does not support 'url'" in text_of(result)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_key_is_needed(server: Server, mode: str, key: str) -> None:
    with pytest.raises(BaseException) as raised:  # a group of errors, or the error itself
        asked(server, lambda client: client.list_tools(), mode, key)
    error = error_of(raised.value)
    assert isinstance(error, MCPError) and "Authorization: Bearer KEY" in str(error)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_huge_body_is_an_error_and_the_next_call_is_answered(server: Server, mode: str) -> None:
    async def both(client: Client) -> CallToolResult:
        with pytest.raises(MCPError, match="The body is larger than 2000000 bytes."):
            await client.call_tool("describe", {"image": {"base64": "A" * 2_100_000}})
        return await client.call_tool("describe", {"image": {"base64": PHOTOGRAPH}, "regions": [PHONE]})

    assert not asked(server, both, mode).is_error


def test_metrics_name_the_surface_and_the_log_is_not_filled(server: Server) -> None:
    call(server, "describe", image={"base64": IMAGE})
    metrics = server._open(request_with_key(server, "/metrics"))[1].decode()
    assert 'dynrefer_requests_total{outcome="ok",route="/mcp",surface="mcp"}' in metrics
    until = time.monotonic() + PATIENCE_S
    while not any("POST /mcp 200" in line for line in server.lines):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert not any("session" in line for line in server.lines)


def request_with_key(server: Server, path: str) -> Any:
    import urllib.request

    return urllib.request.Request(server.address + path, headers={"Authorization": f"Bearer {KEY}"})


def test_the_snippet_of_the_documentation_runs(server: Server) -> None:
    (snippet,) = [each for each in examples_of(ROOT / "docs/integrations/mcp.md") if each.kind == "python"]
    keyed = f"streamable_http_client({server.address + '/mcp'!r}, http_client=http)"
    code = snippet.text.replace('"http://127.0.0.1:8000/mcp"', keyed).replace(
        "    async with Client",
        f"    http = httpx2.AsyncClient(headers={{'Authorization': 'Bearer {KEY}'}})\n    async with Client",
    )
    code = "import httpx2\nfrom mcp.client.streamable_http import streamable_http_client\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(snippet.answer.strip().removesuffix("..."))


def test_a_client_that_leaves_ends_its_call() -> None:
    with running("tests.serve_fake", DYNREFER_INTEGRATIONS="mcp", FAKE_RUN_SECONDS="3") as server:
        server.await_ready()
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(server.address + "/mcp", json=tool_call("describe", image={"base64": IMAGE}), timeout=0.5)
        until = time.monotonic() + PATIENCE_S
        while not any("POST /mcp 499" in line for line in server.lines):
            assert time.monotonic() < until
            time.sleep(0.02)
