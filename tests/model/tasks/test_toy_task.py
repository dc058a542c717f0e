"""A fifth task, added as its author would: one file in `model/tasks/` and its entry in the tuple.

In a copy of the checkout, whose service is then started as a process with the embedded model.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.repository import ROOT
from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_process import Server

pytestmark = pytest.mark.server

TOY = '''
"""Moods: the same one for every region."""

from dynrefer.model.tasks.definition import TaskDefinition
from dynrefer.model.tasks.scoring import Label


class MoodTask(TaskDefinition):
    name = "mood"
    stage = "mood"
    prior = (0.0, 0.3, 0.6)
    scored = True
    record = Label
    many = True

    def names(self, vocabulary):
        return ("calm", "busy")

    def run(self, loaded, batch):
        return [1.0] * len(batch.representation)

    def is_finite(self, output):
        return True

    def finish(self, loaded, output, identity, threshold, top_k):
        labels = (Label("calm", output, 0.75), Label("busy", 0.0, 0.25))
        return tuple(label for label in labels if threshold is None or label.score > threshold)[:top_k]
'''
ENTRY = {
    "from dynrefer.model.tasks.tags import TagsTask\n": "from dynrefer.model.tasks.mood import MoodTask\n",
    "    CategoriesTask(),\n": "    MoodTask(),\n",
}
REGION = {"box": [4, 4, 30, 40]}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model's code with the fifth task; the rest are links."""
    folder = tmp_path_factory.mktemp("checkout")
    weights = ROOT / "model" / "embedded"

    def left_out(directory: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or Path(directory, name) == weights}

    shutil.copytree(ROOT / "model", folder / "model", ignore=left_out)
    shutil.copytree(ROOT / "dynrefer", folder / "dynrefer", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("model/embedded", "service", "workbench"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "model" / "tasks" / "mood.py").write_text(TOY, encoding="utf-8")
    tuple_file = folder / "model" / "tasks" / "__init__.py"
    text = tuple_file.read_text(encoding="utf-8")
    for line, added in ENTRY.items():
        assert text.count(line) == 1
        text = text.replace(line, line + added)
    tuple_file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(checkout: Path) -> Iterator[Server]:
    server = Server("dynrefer.service.cli", "serve", "--device", "cpu", folder=checkout)
    server.await_ready()
    yield server
    assert server.end() == 0


def describe(server: Server, **fields: Any) -> dict[str, Any]:
    status, answer = server.describe({"image": {"base64": in_base64(image_bytes())}, "regions": [REGION], **fields})
    assert status == 200, answer
    return answer


def test_its_result_stage_and_views_are_in_the_answer(server: Server) -> None:
    answer = describe(server, task=["mood", "caption"])
    (region,) = answer["regions"]
    assert region["caption"]["text"]
    calm, busy = region["mood"]
    assert (calm["name"], calm["score"], calm["probability"], busy["name"]) == ("calm", 1.0, 0.75, "busy")
    assert [view["t"] for view in calm["views"]] == [0.0, 0.3, 0.6] and calm["view_policy"] == "task_prior"
    stages = ["views", "queue", "vision", "heads", "mood", "caption"]
    assert list(region["timings_ms"]) == stages and list(answer["timings_ms"]) == ["decode", *stages, "total"]


def test_no_task_requests_it_too_and_after_the_others(server: Server) -> None:
    (region,) = describe(server)["regions"]
    fields = ["caption", "tags", "attributes", "categories", "mood", "timings_ms"]
    assert list(region)[-6:] == fields


def test_thresholds_and_top_k_reach_it(server: Server) -> None:
    assert len(describe(server, task="mood", top_k=1)["regions"][0]["mood"]) == 1
    (label,) = describe(server, task="mood", thresholds={"mood": 0.5})["regions"][0]["mood"]
    assert label["name"] == "calm"


def test_the_contract_names_it(server: Server) -> None:
    schemas = json.loads(server.get("/openapi.json")[1])["components"]["schemas"]
    single, several, _ = schemas["DescribeRequest"]["properties"]["task"]["anyOf"]
    assert single["enum"] == several["items"]["enum"] == ["caption", "tags", "attributes", "categories", "mood"]
    assert schemas["RegionOut"]["properties"]["mood"]["anyOf"][0]["items"] == {"$ref": "#/components/schemas/LabelOut"}
    assert "mood" in schemas["Thresholds"]["properties"]


def test_the_models_card_and_the_metrics_name_it(server: Server) -> None:
    describe(server, task="mood")
    (card,) = json.loads(server.get("/v1/models")[1])["models"]
    assert card["vocabulary"]["mood"] == {"size": 2, "names": ["calm", "busy"]}
    assert card["task_priors"]["mood"] == [0.0, 0.3, 0.6]
    assert b'dynrefer_stage_duration_seconds_count{stage="mood"}' in server.get("/metrics")[1]


def test_the_command_line_takes_it(checkout: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(image_bytes())
    command = [sys.executable, "-m", "dynrefer.service.cli", "describe", str(image), "--box", "4,4,30,40"]
    command += ["--task", "mood"]
    done = subprocess.run([*command, "--json"], cwd=checkout, capture_output=True, text=True, check=True)
    (region,) = json.loads(done.stdout)
    assert [label["name"] for label in region["mood"]] == ["calm", "busy"]
    shown = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert "mood        calm 0.75, busy" in shown
