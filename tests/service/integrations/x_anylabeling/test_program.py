"""X-AnyLabeling itself, its window without a screen, against a service process with the embedded model."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.repository import ROOT
from tests.service.integrations.environments import python_with
from tests.service.server.test_process import running

pytestmark = [pytest.mark.system, pytest.mark.server, pytest.mark.heavy]
SCRIPT = Path(__file__).parent / "in_the_window.py"
TOURIST = ROOT / "benchmarks" / "photographs" / "tourist.jpg"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What lay on the canvas after each task."""
    folder = tmp_path_factory.mktemp("x-anylabeling")
    image = shutil.copy(TOURIST, folder)  # the program saves what lies on the canvas beside it
    with running(
        "dynrefer.service.cli", "serve", "--integrations", "x-anylabeling", DYNREFER_API_KEYS="sesame"
    ) as server:
        server.await_ready()
        url = f"{server.address}/x-anylabeling"
        command = [python_with("x-anylabeling"), SCRIPT, url, "sesame", folder, image]
        ran = subprocess.run(
            command, capture_output=True, text=True, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}
        )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
    yield json.loads(line.removeprefix("ANSWER "))


def test_the_window_lists_the_model_and_its_tasks(done: dict[str, Any]) -> None:
    assert done["models"] == ["DynRefer (dynrefer-embedded)"]
    assert done["tasks"][0] == "find_names" and len(done["tasks"]) == 8
    assert {"edit_text", "button_send", "edit_conf", "edit_iou"} <= set(done["shown"])
    assert not {"button_run", "add_pos_rect", "mask_fineness_slider"} & set(done["shown"])


def test_names_come_as_boxes_with_captions_and_attributes(done: dict[str, Any]) -> None:
    assert {shape["label"] for shape in done["find_names"]} == {"binoculars", "cell phone"}
    phone = max((s for s in done["find_names"] if s["label"] == "cell phone"), key=lambda shape: shape["score"])
    assert phone["shape_type"] == "rectangle" and phone["points"][0] == pytest.approx((303.98, 182.31), abs=2)
    assert phone["attributes"] == {"color": "black"} and "black" in phone["description"]


def test_everything_comes_as_polygons(done: dict[str, Any]) -> None:
    assert len(done["find_all_masks"]) > 2
    assert {shape["shape_type"] for shape in done["find_all_masks"]} == {"polygon"}


def test_the_boxes_that_were_drawn_are_described_where_they_are(done: dict[str, Any]) -> None:
    phone, person = [shape for shape in done["describe_boxes"] if shape["label"] != "AUTOLABEL_ADD"]
    assert phone["label"] == "cell phone" and phone["description"] == "a black cell phone"
    assert phone["points"] == [[308, 190], [401, 190], [401, 258], [308, 258]]
    assert person["points"] == [[75, 90], [640, 90], [640, 427], [75, 427]]


def test_a_click_outlines_an_object_until_it_is_finished(done: dict[str, Any]) -> None:
    (outline,) = [shape for shape in done["outline_clicked"] if shape["label"] == "AUTOLABEL_OBJECT"]
    assert outline["shape_type"] == "polygon" and outline["description"] == "a black cell phone"
    xs, ys = zip(*outline["points"], strict=True)
    assert min(xs) < 350 < max(xs) and min(ys) < 220 < max(ys)


def test_an_image_gets_its_description_and_an_error_is_shown(done: dict[str, Any]) -> None:
    assert done["description"]
    assert any("Remote server error: 422" in message for message in done["messages"]), done["messages"]
