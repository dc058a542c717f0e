"""A valid request of every integration's surface, and what its form of an error says: `test_seam.py` holds all of them
to the core's keys, limits and guards.

An integration adds a row to ASKED for each of its paths that takes an image.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.service.conftest import image_bytes, in_base64, one_region


def as_problem(answer: Any) -> str:
    """The sentence of a problem document."""
    detail: str = answer["detail"]
    return detail


def as_error(answer: Any) -> str:
    """The sentence of `{"error"}`, which is a list where several fields are at fault."""
    assert set(answer) == {"error"}
    error = answer["error"]
    return error if isinstance(error, str) else " ".join(error)


@dataclass(frozen=True)
class Asked:
    """integration: its name. path: of a POST. document: the JSON body of a valid request. with_url: the body of one
    whose image is at an address, also where the surface takes none. said: an error's answer -> its sentence, and fails
    where the answer is not in the surface's own form. settings: further ones that it needs. flaws_within: whether what
    is wrong with an image stands within an answer whose status is 200.
    """

    integration: str
    path: str
    document: Mapping[str, Any]
    with_url: Callable[[str], Mapping[str, Any]]
    said: Callable[[Any], str] = as_problem
    settings: Mapping[str, Any] = field(default_factory=dict)
    flaws_within: bool = False

    def __str__(self) -> str:
        return f"{self.integration} {self.path}"


def as_success_false(answer: Any) -> str:
    """The sentence of X-AnyLabeling's form of an error."""
    assert answer["success"] is False and answer["error"]["code"] and answer["error"]["details"]["request_id"]
    message: str = answer["error"]["message"]
    return message


def as_tool_result(answer: Any) -> str:
    """The sentence of an error of JSON-RPC, or of a tool's result that says what went wrong."""
    assert answer["jsonrpc"] == "2.0"
    if "error" in answer:
        assert answer["error"]["code"] < 0 and answer["error"]["data"]["detail"] == answer["error"]["message"]
        message: str = answer["error"]["message"]
        return message
    assert answer["result"]["isError"] and "structuredContent" not in answer["result"]
    text: str = answer["result"]["content"][0]["text"]
    return text


def as_google_error(answer: Any) -> str:
    """The sentence of an error in the form of Google's interfaces, or of a prediction's."""
    if "predictions" in answer:
        return as_problem(answer["predictions"][0]["error"])
    error = answer["error"]
    assert error["code"] >= 400 and error["status"] and error["details"][0]["requestId"]
    message: str = error["message"]
    return message


def tool_call(name: str, **arguments: Any) -> dict[str, Any]:
    """A message of the Model Context Protocol."""
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


IMAGE = in_base64(image_bytes())


def as_openai_error(answer: Any) -> str:
    """The sentence of OpenAI's form of an error."""
    assert list(answer) == ["error"] and list(answer["error"]) == ["message", "type", "param", "code"]
    message: str = answer["error"]["message"]
    return message


def chat(url: str) -> dict[str, Any]:
    """A chat completion about an image."""
    content = [{"type": "text", "text": "Describe [8, 8, 40, 40]."}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": "dynrefer", "messages": [{"role": "user", "content": content}]}


def as_label_studio_error(answer: Any) -> str:
    """The sentence in the member `error`."""
    sentence: str = answer["error"]
    assert answer["request_id"]
    return sentence


def label_studio_task(image: str) -> dict[str, Any]:
    """A request to /predict about one task: describe the box that was drawn."""
    box = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0}
    drawn = {"id": "a", "from_name": "box", "to_name": "image", "type": "rectangle", "value": box}
    config = """<View><Image name="image" value="$image"/><Rectangle name="box" toName="image"/>
        <TextArea name="caption" toName="image" perRegion="true"/></View>"""
    task = {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": [drawn]}]}
    return {"tasks": [task], "project": "1.2", "label_config": config, "params": {"context": None}}


def tensors(request: Mapping[str, Any]) -> dict[str, Any]:
    """An inference request of KServe about an image."""
    return {
        "inputs": [
            {"name": "image", "shape": [1], "datatype": "BYTES", "data": [IMAGE]},
            {"name": "request", "shape": [1], "datatype": "BYTES", "data": [json.dumps(request)]},
        ]
    }


def marked(image: str) -> dict[str, Any]:
    """What X-AnyLabeling sends to have a rectangle described."""
    marks = [{"type": "rectangle", "data": [8, 8, 40, 40], "label": 1}]
    return {"model": "fake", "image": image, "params": {"marks": marks}}


ASKED = [
    *(
        Asked("openai", path, chat(f"data:image/png;base64,{IMAGE}"), chat, as_openai_error)
        for path in ("/v1/chat/completions", "/chat/completions")
    ),
    Asked(
        "sagemaker",
        "/invocations",
        {"image": {"base64": IMAGE}, **one_region()},
        with_url=lambda url: {"image": {"url": url}, **one_region()},
    ),
    *(
        Asked(
            "mcp",
            "/mcp",
            tool_call(name, image={"base64": IMAGE}),
            with_url=lambda url, name=name: tool_call(name, image={"url": url}),  # type: ignore[misc]
            said=as_tool_result,
            flaws_within=True,
        )
        for name in ("describe", "detect", "explain")
    ),
    Asked(
        "label-studio",
        "/label-studio/predict",
        label_studio_task(f"data:image/png;base64,{IMAGE}"),
        with_url=label_studio_task,
        said=as_label_studio_error,
    ),
    Asked(
        "sagemaker",
        "/invocations?endpoint=detect",
        {"image": {"base64": IMAGE}, "names": ["dog"]},
        with_url=lambda url: {"image": {"url": url}, "names": ["dog"]},
    ),
    Asked(
        "hugging-face",
        "/hf/zero-shot-object-detection",
        {"inputs": IMAGE, "parameters": {"candidate_labels": ["dog"]}},
        with_url=lambda url: {"inputs": url, "parameters": {"candidate_labels": ["dog"]}},
        said=as_error,
    ),
    Asked("hugging-face", "/hf/image-to-text", {"inputs": IMAGE}, with_url=lambda url: {"inputs": url}, said=as_error),
    Asked(
        "hugging-face",
        "/hf/image-classification",
        {"inputs": IMAGE, "parameters": {"top_k": 3}},
        with_url=lambda url: {"inputs": url, "parameters": {"top_k": 3}},
        said=as_error,
    ),
    *(
        Asked(
            "kserve",
            f"/v2/models/{model}/infer",
            tensors(request),
            with_url=lambda url, request=request: tensors({**request, "image": {"url": url}}),  # type: ignore[misc]
            said=as_error,
        )
        for model, request in (("describe", one_region()), ("detect", {"names": ["dog"]}))
    ),
    Asked(
        "x-anylabeling",
        "/x-anylabeling/v1/predict",
        marked(f"data:image/png;base64,{IMAGE}"),
        with_url=marked,
        said=as_success_false,
    ),
    Asked(
        "vertex",
        "/vertex/predict",
        {"instances": [{"image": {"base64": IMAGE}, **one_region()}]},
        with_url=lambda url: {"instances": [{"image": {"url": url}, **one_region()}]},
        said=as_google_error,
        flaws_within=True,
    ),
    Asked(
        "vertex",
        "/vertex/predict",
        {"instances": [{"image": {"base64": IMAGE}}], "parameters": {"endpoint": "detect", "names": ["dog"]}},
        with_url=lambda url: {
            "instances": [{"image": {"url": url}}],
            "parameters": {"endpoint": "detect", "names": ["dog"]},
        },
        said=as_google_error,
        flaws_within=True,
    ),
]
