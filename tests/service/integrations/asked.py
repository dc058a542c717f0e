"""A valid request of every integration's surface, and what its form of an error says: `test_seam.py` holds all of them
to the core's keys, limits and guards.

An integration adds a row to ASKED for each of its paths that takes an image.
"""

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
    whose image is at an address, None where the surface has no such thing. said: an error's answer -> its sentence, and
    fails where the answer is not in the surface's own form. settings: further ones that it needs.
    """

    integration: str
    path: str
    document: Mapping[str, Any]
    with_url: Callable[[str], Mapping[str, Any]] | None = None
    said: Callable[[Any], str] = as_problem
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.integration} {self.path}"


def as_success_false(answer: Any) -> str:
    """The sentence of X-AnyLabeling's form of an error."""
    assert answer["success"] is False and answer["error"]["code"] and answer["error"]["details"]["request_id"]
    message: str = answer["error"]["message"]
    return message


IMAGE = in_base64(image_bytes())


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


ASKED = [
    Asked(
        "sagemaker",
        "/invocations",
        {"image": {"base64": IMAGE}, **one_region()},
        with_url=lambda url: {"image": {"url": url}, **one_region()},
    ),
    Asked(
        "label-studio",
        "/label-studio/predict",
        label_studio_task(f"data:image/png;base64,{IMAGE}"),
        with_url=label_studio_task,
        said=as_label_studio_error,
    ),
    Asked("hugging-face", "/hf/image-to-text", {"inputs": IMAGE}, with_url=lambda url: {"inputs": url}, said=as_error),
    Asked(
        "hugging-face",
        "/hf/image-classification",
        {"inputs": IMAGE, "parameters": {"top_k": 3}},
        with_url=lambda url: {"inputs": url, "parameters": {"top_k": 3}},
        said=as_error,
    ),
    Asked(
        "x-anylabeling",
        "/x-anylabeling/v1/predict",
        {
            "model": "fake",
            "image": f"data:image/png;base64,{IMAGE}",
            "params": {"marks": [{"type": "rectangle", "data": [8, 8, 40, 40], "label": 1}]},
        },
        said=as_success_false,
    ),
]
