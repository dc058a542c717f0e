"""The function that `cvat-cli` runs: the real agent and auto-annotation, against a service process with the embedded
model and a CVAT server that is faked at the level of HTTP.
"""

from typing import Any

import pytest

from tests.repository import ROOT
from tests.service.integrations.cvat.conftest import Run
from tests.service.integrations.cvat.fake_server import FUNCTION, TASK, FakeCvat, label, text_attribute

pytestmark = [pytest.mark.system, pytest.mark.server, pytest.mark.heavy]  # not for its size: it runs many programs
PHOTOGRAPHS = ROOT / "benchmarks" / "photographs"
IMAGES = [PHOTOGRAPHS / "tourist.jpg", PHOTOGRAPHS / "two-dogs.jpg", PHOTOGRAPHS / "tourist.jpg"]
CAPTION, REMARK = text_attribute(11, "caption"), text_attribute(12, "remark")
LABELS = [label(1, "dog", CAPTION, REMARK), label(2, "cell phone", text_attribute(13, "caption"))]


@pytest.fixture
def fake() -> FakeCvat:
    return FakeCvat(IMAGES, LABELS, [])


MODULE = ("--function-module", "dynrefer.service.client.cvat")
NAMES = (*MODULE, "-p", "names=str:dog, cell  phone", "-p", "attributes=str:caption")
MAPPING = {name: {"name": name, "attributes": {"caption": "caption"}} for name in ("dog", "cell phone")}


def parameters(**more: Any) -> dict[str, Any]:
    known = {"type": "annotate_task", "task": TASK, "mapping": MAPPING, "threshold": None, "conv_mask_to_poly": False}
    return known | more


def test_its_agent_annotates_tasks_and_frames(run: Run, fake: FakeCvat) -> None:
    made = run("cvat_cli", "function", "create-native", "DynRefer", *NAMES)
    assert made.returncode == 0 and made.stdout.strip() == str(FUNCTION), made.stderr
    assert [each["name"] for each in fake.function["labels_v2"]] == ["dog", "cell phone"]
    assert fake.function["kind"] == "detector" and fake.function["labels_v2"][0]["type"] == "rectangle"
    fake.requests = [
        {"category": "batch", "params": parameters()},
        {"category": "interactive", "params": parameters(type="annotate_frame", frame=1, threshold=0.45)},
    ]
    ran = run("cvat_cli", "function", "run-agent", str(FUNCTION), "--burst", *NAMES)
    assert ran.returncode == 0 and not fake.failed, ran.stderr[-3_000:]
    one_frame, whole = (each["annotations"]["shapes"] for each in fake.completed)
    assert {shape["frame"] for shape in whole} == {0, 1, 2} and {shape["label_id"] for shape in whole} == {1, 2}
    phone = max((s for s in whole if s["label_id"] == 2 and s["frame"] == 0), key=lambda shape: shape["score"])
    assert phone["type"] == "rectangle" and phone["points"] == pytest.approx([303.98, 182.31, 407.06, 304.12], abs=3)
    assert phone["source"] == "auto"
    (caption,) = phone["attributes"]
    assert caption["spec_id"] == 13 and "black" in caption["value"]
    assert one_frame and {shape["frame"] for shape in one_frame} == {1}
    assert all(shape["score"] >= 0.45 for shape in one_frame)
    assert len(one_frame) < len([shape for shape in whole if shape["frame"] == 1])


def test_masks_and_polygons(run: Run, fake: FakeCvat) -> None:
    masks = (*MODULE, "-p", "names=str:dog", "-p", "masks=bool:true", "-p", "attributes=str:caption,kind:color=remark")
    for more, kind in ((), "mask"), (("--conv-mask-to-poly", "--clear-existing"), "polygon"):
        ran = run("cvat_cli", "task", "auto-annotate", str(TASK), *masks, *more)
        assert ran.returncode == 0, ran.stderr[-3_000:]
        dogs = [shape for shape in fake.shapes if shape["frame"] == 1]
        assert len(dogs) >= 2 and {shape["type"] for shape in fake.shapes} == {kind}
        assert {each["spec_id"] for each in dogs[0]["attributes"]} == {11, 12}
    # A mask's last numbers are its bounds; a polygon's points lie in the image.
    assert all(-1 <= number <= 641 for shape in dogs for number in shape["points"])


def test_without_names_everything_goes_under_one_label(run: Run, fake: FakeCvat) -> None:
    fake.labels = [label(5, "thing", text_attribute(21, "what"))]
    found = (*MODULE, "-p", "label=str:thing", "-p", "attributes=str:category=what", "-p", "max_regions=int:2")
    ran = run("cvat_cli", "task", "auto-annotate", str(TASK), *found)
    assert ran.returncode == 0, ran.stderr[-3_000:]
    assert len(fake.shapes) == 6 and {shape["label_id"] for shape in fake.shapes} == {5}
    assert all(shape["attributes"][0]["value"] for shape in fake.shapes)


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("attributes=str:captoin", "'captoin' is no part of a description; write caption, category, tags, attributes"),
        ("attributes=str:caption,tags=caption", "The attribute 'caption' is to be filled twice."),
        ("threshold=float:7", "The threshold must lie in 0 to 1, not 7."),
        ("names=str:dog,dog", "The name 'dog' is asked twice."),
        ("server=str:nowhere", "nowhere"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_made(
    run: Run, fake: FakeCvat, parameter: str, sentence: str
) -> None:
    ran = run("cvat_cli", "function", "create-native", "DynRefer", *MODULE, "-p", parameter)
    assert ran.returncode != 0 and sentence in ran.stderr
    assert not fake.function


def test_a_service_that_refuses_fails_the_request_alone(run: Run, fake: FakeCvat) -> None:
    run("cvat_cli", "function", "create-native", "DynRefer", *NAMES)
    fake.requests = [{"category": "batch", "params": parameters()}]
    ran = run("cvat_cli", "function", "run-agent", str(FUNCTION), "--burst", *NAMES, DYNREFER_KEY="wrong")
    assert ran.returncode == 0 and fake.failed and not fake.completed
    assert "valid key" in ran.stderr


def test_clicks_give_masks(run: Run, fake: FakeCvat) -> None:
    clicks = ("--function-module", "dynrefer.service.client.cvat.clicks")
    made = run("cvat_cli", "function", "create-native", "Outline", *clicks)
    assert made.returncode == 0 and fake.function["kind"] == "interactor", made.stderr
    asked = {"type": "interact", "task": TASK, "frame": 0, "obj_bbox": []}
    fake.requests = [
        {"category": "interactive", "params": {**asked, "pos_points": [[350, 220]], "neg_points": [[20, 20]]}},
        {"category": "interactive", "params": {**asked, "pos_points": [], "neg_points": []}},
    ]
    ran = run("cvat_cli", "function", "run-agent", str(FUNCTION), "--burst", *clicks)
    assert ran.returncode == 0, ran.stderr[-3_000:]
    ((shape,),) = (each["shapes"] for each in fake.completed)
    *runs, left, top, right, bottom = shape["points"]
    assert shape["type"] == "mask" and left < 350 < right and top < 220 < bottom
    assert sum(runs) == (right - left + 1) * (bottom - top + 1) and sum(runs[1::2]) > 500
    assert [each["exc_info"] for each in fake.failed] == ["Invalid annotation request: not enough positive points"]
