"""The Model Context Protocol: what the tools answer, in each revision of the protocol, and what they refuse."""

import base64
import importlib.metadata
import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, get_args

import pytest
from httpx2 import Response
from PIL import Image

from dynrefer.model import Explain, no_names
from dynrefer.service.api.schemas import TASK_NAMES
from dynrefer.service.integrations.mcp.arguments import TaskName, ToolCall
from dynrefer.service.integrations.mcp.messages import read_message
from dynrefer.service.settings import Settings, SettingsError, load_settings
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.conftest import HEIGHT, WIDTH, ApiFactory, image_bytes, in_base64
from tests.service.integrations.asked import IMAGE, as_tool_result, tool_call

BOX = {"box": [8, 8, 40, 40]}


class Tools:
    """Posts messages to /mcp."""

    def __init__(self, make_api: ApiFactory, **more: Any) -> None:
        self.api = make_api(integrations="mcp", **more)

    def post(self, message: Any, **headers: str) -> Response:
        return self.api.client.post("/mcp", json=message, headers=headers)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A call's result."""
        response = self.post(tool_call(name, **arguments))
        assert response.status_code == 200, response.text
        result: dict[str, Any] = response.json()["result"]
        return result

    def refused_or_answered(self, **arguments: Any) -> str:
        """What a description says, whatever its status."""
        document = self.post(tool_call("describe", **arguments)).json()
        if "result" in document:
            text: str = document["result"]["content"][0]["text"]
            return text
        return as_tool_result(document)

    def refused(self, name: str, **arguments: Any) -> str:
        """What the result of a call says that is wrong."""
        response = self.post(tool_call(name, **arguments))
        assert response.status_code == 200, response.text
        return as_tool_result(response.json())


@pytest.fixture
def tools(make_api: ApiFactory) -> Tools:
    return Tools(make_api)


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_handshake_says_what_this_is(tools: Tools, version: str) -> None:
    asked = message("initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "t", "version": "1"})
    response = tools.post(asked)
    result = response.json()["result"]
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "dynrefer"
    assert result["serverInfo"]["version"] == importlib.metadata.version("dynrefer")
    assert "mcp-session-id" not in response.headers  # nothing is held between messages
    done = tools.api.client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert done.status_code == 202


def test_the_tools_have_typed_arguments_with_descriptions(tools: Tools) -> None:
    listed = {each["name"]: each for each in tools.post(message("tools/list")).json()["result"]["tools"]}
    assert set(listed) == {"describe", "detect", "explain"}
    for tool in listed.values():
        assert tool["inputSchema"]["required"] == ["image"]
        properties = tool["inputSchema"]["properties"]
        assert all("description" in each or "$ref" in each for each in properties.values())
        assert tool["outputSchema"]["properties"]["regions"] and tool["annotations"]["readOnlyHint"]
        assert len(json.dumps(tool["inputSchema"])) < 4_000  # all of it is in a language model's context


def test_the_tools_know_every_task() -> None:
    assert get_args(TaskName) == TASK_NAMES


def test_describe_answers_a_text_and_the_records(tools: Tools) -> None:
    result = tools.call("describe", image={"base64": IMAGE}, regions=[BOX, {"box": [0, 0, 9, 9], "id": "corner"}])
    regions = result["structuredContent"]["regions"]
    assert [each["id"] for each in regions] == ["0", "corner"]
    lines = result["content"][0]["text"].splitlines()
    assert lines[0] == f"{WIDTH} x {HEIGHT} pixels"
    assert lines[1].startswith(f"0 at [8, 8, 40, 40]: {regions[0]['caption']['text']}")
    assert lines[2].startswith("corner at [0, 0, 9, 9]: ")
    assert len(result["content"]) == 1 and not result.get("isError")


@pytest.mark.parametrize("regions", [{}, {"regions": None}, {"regions": None, "coordinates": "pixels", "draw": None}])
def test_without_regions_the_whole_image_is_described(tools: Tools, regions: dict[str, Any]) -> None:
    result = tools.call("describe", image={"base64": IMAGE}, **regions)
    assert [each["box"] for each in result["structuredContent"]["regions"]] == [[0, 0, WIDTH, HEIGHT]]


def test_fields_of_the_services_own_requests_are_understood(tools: Tools) -> None:
    result = tools.call("describe", image={"base64": IMAGE}, regions=[BOX], task="tags", top_k=1)
    (region,) = result["structuredContent"]["regions"]
    assert len(region["tags"]) == 1 and "caption" not in region


def test_a_drawing_comes_where_it_is_asked_for(tools: Tools) -> None:
    result = tools.call("describe", image={"base64": IMAGE}, regions=[BOX], draw=True)
    text, picture = result["content"]
    assert text["type"] == "text" and (picture["type"], picture["mimeType"]) == ("image", "image/jpeg")
    with Image.open(io.BytesIO(base64.b64decode(picture["data"]))) as drawn:
        assert drawn.format == "JPEG" and drawn.width >= 960


def test_a_large_image_is_not_drawn_and_the_result_says_so(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynrefer.service.integrations.mcp.pictures.MOST_PIXELS", WIDTH * HEIGHT - 1)
    result = tools.call("describe", image={"base64": IMAGE}, draw=True)
    assert [each["type"] for each in result["content"]] == ["text", "text"]
    assert "too large to be drawn" in result["content"][1]["text"]


def test_detect_answers_what_was_found_and_what_was_not(make_api: ApiFactory) -> None:
    tools = Tools(make_api, predictor=FakePredictor(finding=FakeFinderSpec()))
    result = tools.call("detect", image={"base64": IMAGE}, names=["dog", "unicorn"], draw=True)
    found = result["structuredContent"]
    lines = result["content"][0]["text"].splitlines()
    assert lines[0] == f"{WIDTH} x {HEIGHT} pixels, {len(found['regions'])} found"
    assert [each["name"] for each in found["absent"]] == [
        line.removeprefix("not found: ").split(" (")[0] for line in lines if line.startswith("not found: ")
    ]
    assert result["content"][1]["type"] == "image"


@pytest.mark.parametrize(
    "given, thumbnails", [({}, False), ({"thumbnails": True}, True), ({"thumbnails": None}, False)]
)
def test_explain_asks_why(tools: Tools, given: dict[str, Any], thumbnails: bool) -> None:
    tools.call("explain", image={"base64": IMAGE}, regions=[BOX], **given)
    (query,) = tools.api.predictor.queries
    assert query.explain == Explain(candidates=False, thumbnails=thumbnails, evidence=True)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({}, "/image: This field is required."),
        ({"image": "text"}, "/image: An object is expected."),
        ({"image": {"base64": "%"}}, "/image/base64: This is not standard Base64"),
        ({"image": {"base64": in_base64(b"no image")}}, "image"),
        ({"image": {"base64": IMAGE}, "regions": [{"box": [9, 9, 1, 1]}]}, "/regions/0/box: The box (9, 9, 1, 1) is"),
        ({"image": {"base64": IMAGE}, "regions": []}, "/regions: "),
        ({"image": {"base64": IMAGE}, "taks": "tags"}, "/taks: Unknown field 'taks'. Did you mean 'task'?"),
        ({"image": {"base64": IMAGE}, "draw": "yes"}, "/draw: true or false is expected."),
        ({"image": {"base64": IMAGE}, "draw": True, "orientation": "stored"}, "/draw: Only upright images"),
    ],
)
def test_what_is_wrong_with_arguments_is_a_result_with_our_sentence(
    tools: Tools, arguments: dict[str, Any], said: str
) -> None:
    told = tools.refused("describe", **arguments)
    assert said in told
    assert told.splitlines()[-1].startswith("(request req_")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"params": 5}, "An object is expected."),
        ({"params": [1]}, "An object is expected."),
        ({"id": [1]}, "A text or a whole number is expected."),
        ({"id": None}, "A text or a whole number is expected."),
        ({"id": True}, "A text or a whole number is expected."),
    ],
)
def test_a_message_that_is_none_is_refused_in_our_words(tools: Tools, members: dict[str, Any], said: str) -> None:
    refused = tools.post({**message("tools/list"), **members})
    assert refused.status_code == 400 and as_tool_result(refused.json()) == said


def test_several_flaws_are_listed(tools: Tools) -> None:
    told = tools.refused("describe", image={"base64": IMAGE}, top_k=0, task="nothing")
    assert told.splitlines()[0] == "The request has 2 errors." and "/top_k: " in told and "/task: " in told


def test_an_unforeseen_error_tells_nothing_but_its_id(
    make_api: ApiFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("secret")

    tools = Tools(make_api)
    monkeypatch.setattr("dynrefer.service.integrations.mcp.calls.describe_regions", fail)
    with caplog.at_level(logging.ERROR):
        told = tools.refused("describe", image={"base64": IMAGE})
    assert "Something went wrong on our side" in told and "secret" not in told
    assert any(record.exc_info for record in caplog.records)


def test_a_deadline_that_passes_is_an_error_of_the_protocol(make_api: ApiFactory) -> None:
    gate = threading.Event()
    tools = Tools(make_api)
    tools.api.predictor.run_hook = lambda boxes: gate.wait(10) and None
    late = tools.post(tool_call("describe", image={"base64": IMAGE}), **{"x-request-timeout": "0.2"})
    gate.set()
    assert late.status_code == 504
    assert as_tool_result(late.json()) == "The answer was not ready within 0.2 seconds."


def test_a_full_queue_says_when_to_try_again(make_api: ApiFactory) -> None:
    tools = Tools(make_api, max_regions=2, max_queue_regions=2)
    several = [{"box": [0, 0, 9, 9]}, {"box": [0, 0, 8, 8]}]
    gate = threading.Event()
    tools.api.predictor.run_hook = lambda boxes: gate.wait(10) and None
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(tools.refused_or_answered, image={"base64": IMAGE}, regions=several) for _ in range(4)]
        told = next(each.result() for each in as_completed(calls))
        gate.set()
    assert "try again" in told.lower()


def test_an_unknown_tool_is_an_error_of_the_protocol(tools: Tools) -> None:
    error = tools.post(tool_call("destroy", image={"base64": IMAGE})).json()["error"]
    assert error["message"] == "There is no tool 'destroy'; there are describe, detect, explain."


@pytest.mark.parametrize(
    "body, said",
    [
        ([tool_call("describe")], "Send one message of JSON-RPC, and no list of them."),
        ({"id": 1, "method": "ping"}, "A message of JSON-RPC 2.0 is expected: an object with 'jsonrpc': '2.0'."),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, "A text is expected: the name of a method."),
    ],
)
def test_a_body_that_is_no_message_is_refused(tools: Tools, body: Any, said: str) -> None:
    response = tools.post(body)
    assert response.status_code == 400 and as_tool_result(response.json()) == said
    assert response.json()["error"]["data"]["instance"] == "urn:request:" + response.headers["x-request-id"]


def test_only_json_is_taken(tools: Tools) -> None:
    response = tools.api.client.post("/mcp", content=image_bytes(), headers={"content-type": "image/png"})
    assert response.status_code == 415
    assert as_tool_result(response.json()) == "The Content-Type must be application/json."


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_there_are_no_streams_and_no_sessions(tools: Tools, method: str) -> None:
    response = tools.api.client.request(method, "/mcp", headers={"accept": "text/event-stream"})
    assert response.status_code == 405
    assert as_tool_result(response.json())


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_a_web_page_may_call_only_where_the_settings_name_it(make_api: ApiFactory, path: str) -> None:
    ping = message("ping")
    for origins, status in (("", 403), ("https://other.example", 403), ("https://a.example", 200), ("*", 200)):
        client = Tools(make_api, cors_origins=origins).api.client
        response = client.post(path, json=ping, headers={"origin": "https://a.example"})
        assert response.status_code == status
        if status == 403:
            assert "cors_origins" in as_tool_result(response.json())
        assert client.post(path, json=ping).status_code == 200


def test_a_page_that_may_call_may_send_the_protocols_headers(make_api: ApiFactory) -> None:
    client = Tools(make_api, cors_origins="https://a.example").api.client
    asked = "authorization,content-type,mcp-method,mcp-name,mcp-protocol-version"
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    preflight = client.options("/mcp", headers={**headers, "access-control-request-headers": asked})
    assert preflight.status_code == 200


def test_without_the_package_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from dynrefer.service.integrations import switched_on

    for name in [name for name in sys.modules if name.split(".")[0] == "mcp" or ".integrations.mcp" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(SettingsError, match=r"pip install 'dynrefer\[mcp\]'"):
        switched_on(load_settings({"integrations": "mcp"}))


def test_the_protocols_package_is_given_a_short_message() -> None:
    image = image_bytes("PNG", mode="L") + b"\0" * 50_000
    document = tool_call("describe", image={"base64": in_base64(image)})
    message = read_message(json.dumps(document).encode(), "application/json", Settings(), "", no_names)
    assert len(message.text) < 200 and json.loads(message.text)["params"] == {"name": "describe", "arguments": {}}
    assert isinstance(message.call, ToolCall) and message.call.parsed.image == image
    assert message.num_bytes == len(message.text) + len(image)
