"""The real Label Studio 1.23.2 and a real service: its users' regions are described, others found, and what they
correct is collected. `make test-label-studio`."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model import bitmap_from_mask
from dynrefer.service.integrations.label_studio.brushes import read_brush
from tests.repository import ROOT
from tests.service.integrations.label_studio.program import LabelStudioProgram, label_studio
from tests.service.server.test_process import Server, running

pytestmark = [pytest.mark.heavy, pytest.mark.system, pytest.mark.server]

SCENE = ROOT / "docs" / "images" / "scene.png"  # 221 x 231: a pig, a snowman and a bottle
WIDTH, HEIGHT = 221, 231
PIG = {"x": 22.5, "y": 38.5, "width": 25.5, "height": 21.5, "rotation": 0}
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="Pig" alias="p"/><Label value="Snowman"/><Label value="Bottle"/><Label value="Giraffe"/>
  </RectangleLabels>
  <TextArea name="caption" toName="image" perRegion="true" editable="true"/>
  <Choices name="animal" toName="image" perRegion="true"><Choice value="pig"/><Choice value="snowman"/></Choices>
  <Taxonomy name="color" toName="image" perRegion="true">
    <Choice value="Warm"><Choice value="pink"/><Choice value="red"/></Choice>
    <Choice value="Cold"><Choice value="blue"/><Choice value="green"/></Choice>
  </Taxonomy>
</View>"""
KEY = "sesame"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioProgram]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with label_studio(tmp_path_factory.mktemp("label-studio"), port) as running_program:
        yield running_program


@pytest.fixture(scope="module")
def corrections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corrections")


@pytest.fixture(scope="module")
def server(program: LabelStudioProgram, corrections: Path) -> Iterator[Server]:
    settings = {
        "DYNREFER_LABEL_STUDIO_URL": program.url,
        "DYNREFER_LABEL_STUDIO_TOKEN": program.token,
        "DYNREFER_LABEL_STUDIO_CORRECTIONS": str(corrections),
        "DYNREFER_API_KEYS": KEY,
    }
    with running("dynrefer.service.cli", "serve", "--integrations", "label-studio", **settings) as service:
        service.await_ready()
        yield service


@pytest.fixture(scope="module")
def project(program: LabelStudioProgram, server: Server) -> tuple[int, int]:
    """(a project with the service as its backend, its task)."""
    made, tasks = program.project(CONFIG, {"scene.png": SCENE.read_bytes()})
    backend = program.add_backend(made, f"{server.address}/label-studio", KEY)
    assert backend["readable_state"] == "Connected" and backend["model_version"].startswith("dynrefer-embedded")
    assert program.get(f"/api/ml/{backend['id']}/versions")["versions"] == [backend["model_version"]]
    # The webhook that it made carries no key; its headers are the user's to set.
    (webhook,) = program.get("/api/webhooks/", project=str(made))
    assert webhook["url"] == f"{server.address}/label-studio/webhook"
    program.patch(f"/api/webhooks/{webhook['id']}/", {"headers": {"Authorization": f"Bearer {KEY}"}})
    return made, tasks[0]


def by_region(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """id -> control -> item."""
    found: dict[str, dict[str, Any]] = {}
    for item in results:
        found.setdefault(item["id"], {})[item["from_name"]] = item
    return found


def test_a_backend_without_the_key_is_refused_with_the_reason(program: LabelStudioProgram, server: Server) -> None:
    made, _ = program.project(CONFIG, {"scene.png": SCENE.read_bytes()})
    refused = program.add_backend(made, f"{server.address}/label-studio", "wrong", status=(400,))
    assert "authentication parameters were either not provided or are incorrect" in json.dumps(refused)


def test_predictions_are_retrieved_and_stored(program: LabelStudioProgram, project: tuple[int, int]) -> None:
    made, task = project
    program.retrieve_predictions(made, [task])
    (prediction,) = program.predictions(task)
    regions = by_region(prediction["result"])
    labels = {each["label"]["value"]["rectanglelabels"][0]: each for each in regions.values()}
    assert {"p", "Snowman"} <= set(labels) and "Giraffe" not in labels
    pig = labels["p"]
    assert 0.5 < pig["label"]["score"] <= 1 and 0 < prediction["score"] <= 1
    assert (pig["label"]["original_width"], pig["label"]["original_height"]) == (WIDTH, HEIGHT)
    value = pig["label"]["value"]
    for name in ("x", "y", "width", "height"):
        assert value[name] == pytest.approx(PIG[name], abs=3)
    assert "pig" in pig["caption"]["value"]["text"][0]
    assert pig["animal"]["value"]["choices"] == ["pig"] and pig["animal"]["score"] > 0.5
    assert pig["color"]["value"]["taxonomy"] == [["Warm", "pink"]]
    assert prediction["model_version"].startswith("dynrefer-embedded-")


BRUSHES = """<View><Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="Pig"/></BrushLabels>
  <PolygonLabels name="polygon" toName="image"><Label value="Snowman"/></PolygonLabels></View>"""


def test_a_task_that_fails_has_no_prediction_and_the_others_have(program: LabelStudioProgram, server: Server) -> None:
    made, tasks = program.project(BRUSHES, {"scene.png": SCENE.read_bytes(), "other.png": SCENE.read_bytes()})
    program.add_backend(made, f"{server.address}/label-studio", KEY)
    program.patch(f"/api/tasks/{tasks[0]}/", {"data": {"image": "/data/upload/0/missing.png"}})
    program.retrieve_predictions(made, tasks)
    assert program.predictions(tasks[0]) == []
    assert "'error': 'Label Studio answered with status" in program.log.read_text(errors="replace")
    (prediction,) = program.predictions(tasks[1])
    by_type = {item["type"]: item["value"] for item in prediction["result"]}
    mask = bitmap_from_mask(read_brush(by_type["brushlabels"]["rle"], WIDTH, HEIGHT, WIDTH * HEIGHT).mask)
    assert mask[115, 78] and not mask[5, 5] and by_type["brushlabels"]["brushlabels"] == ["Pig"]
    assert len(by_type["polygonlabels"]["points"]) > 8


def drawn(name: str = "abc") -> dict[str, Any]:
    return {
        "id": name,
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "value": {**PIG, "rectanglelabels": ["p"]},
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
    }


def test_a_box_that_was_just_drawn_is_described(program: LabelStudioProgram, project: tuple[int, int]) -> None:
    made, task = project
    (backend,) = program.get("/api/ml/", project=str(made))
    asked = {"task": task, "context": {"result": [drawn()]}}
    answer = program.post(f"/api/ml/{backend['id']}/interactive-annotating", asked)["data"]
    (name, region), *others = by_region(answer["result"]).items()
    assert name == "abc" and not others
    assert region["label"]["value"] == {**PIG, "rectanglelabels": ["p"]}
    assert "pig" in region["caption"]["value"]["text"][0]
    assert region["caption"]["value"]["x"] == PIG["x"]
    assert region["animal"]["value"]["choices"] == ["pig"]
    assert region["color"]["value"]["taxonomy"] == [["Warm", "pink"]]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    file = folder / "corrections.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def await_lines(folder: Path, count: int) -> list[dict[str, Any]]:
    until = time.monotonic() + 60
    while len(lines_of(folder)) < count:
        assert time.monotonic() < until, lines_of(folder)
        time.sleep(0.1)
    return lines_of(folder)


def test_an_annotation_becomes_a_correction_and_an_export_the_same(
    program: LabelStudioProgram, project: tuple[int, int], corrections: Path, tmp_path: Path
) -> None:
    made, task = project
    caption = {**drawn(), "from_name": "caption", "type": "textarea", "value": {**PIG, "text": ["a pink pig"]}}
    choice = {**drawn(), "from_name": "animal", "type": "choices", "value": {**PIG, "choices": ["pig"]}}
    annotation = program.post(f"/api/tasks/{task}/annotations/", {"result": [drawn(), caption, choice]})["id"]
    (line,) = await_lines(corrections, 1)
    assert line["id"] == f"label-studio:{task}:{annotation}:abc"
    assert line["box"] == pytest.approx([49.7, 88.9, 106.1, 138.6], abs=0.1)
    assert (line["caption"], line["category"]) == ("a pink pig", "pig")
    assert (corrections / line["image"]).read_bytes() == SCENE.read_bytes()

    changed = {**caption, "value": {**PIG, "text": ["a pink pig in the snow"]}}
    program.patch(f"/api/annotations/{annotation}/", {"result": [drawn(), changed, choice]})
    assert await_lines(corrections, 2)[-1]["caption"] == "a pink pig in the snow"

    export = tmp_path / "export.json"
    export.write_text(json.dumps(program.get(f"/api/projects/{made}/export", exportType="JSON")))
    config = tmp_path / "config.xml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "dynrefer.service.cli", "corrections", str(export), "--config", str(config)]
    source = ["--label-studio", program.url, "--out", str(tmp_path / "out")]
    environment = {"DYNREFER_LABEL_STUDIO_TOKEN": program.token}
    subprocess.run([*command, *source], check=True, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
    assert lines_of(tmp_path / "out") == lines_of(corrections)[-1:]
    again = [*command, *source[:2], "--out", str(corrections)]
    said = subprocess.run(
        again, check=True, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True
    )
    assert "1 regions of 1 tasks; 0 lines added" in said.stdout

    program.delete(f"/api/annotations/{annotation}/")
    assert await_lines(corrections, 3)[-1] == {"id": line["id"], "deleted": True}


def refused_events(server: Server) -> list[str]:
    return [line for line in server.lines if "/label-studio/webhook" in line and " 422 " in line]


def test_a_wish_to_train_does_not_look_like_training(
    program: LabelStudioProgram, server: Server, project: tuple[int, int]
) -> None:
    made, _ = project
    (backend,) = program.get("/api/ml/", project=str(made))
    assert backend["readable_state"] == "Connected" and not refused_events(server)
    clicked = program.client.post(f"/api/ml/{backend['id']}/train", json={}, headers=program.headers())
    assert clicked.status_code == 200
    until = time.monotonic() + 60
    while not refused_events(server):
        assert time.monotonic() < until, "the wish has not arrived"
        time.sleep(0.1)
    (after,) = program.get("/api/ml/", project=str(made))
    assert after["readable_state"] != "Training"
