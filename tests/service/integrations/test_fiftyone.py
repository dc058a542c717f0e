"""`to_fiftyone()` and the models of FiftyOne, with FiftyOne itself and a service process with the embedded model."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model import Descriptions, ImageError
from dynrefer.model.detections import to_fiftyone
from tests.repository import ROOT
from tests.service.integrations.environments import python_with
from tests.service.integrations.snippets import check_snippets
from tests.service.server.test_process import running

SCRIPT = Path(__file__).parent / "in_fiftyone.py"
DOGS = ROOT / "benchmarks" / "photographs" / "two-dogs.jpg"


def test_without_the_package_one_sentence_says_how_to_get_it() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dynrefer\[fiftyone\]'"):
        to_fiftyone([], (640, 480))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the samples held."""
    folder = tmp_path_factory.mktemp("fiftyone")
    with running("dynrefer.service.cli", "serve") as server:
        server.await_ready()
        command = [python_with("fiftyone"), SCRIPT, server.address, DOGS, folder / "drawn.jpg"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr[-4_000:]
        check_snippets("fiftyone.md", python_with("fiftyone"), server.address, folder)
    yield json.loads(ran.stdout.splitlines()[-1])


class TestReal:
    pytestmark = [pytest.mark.system, pytest.mark.server, pytest.mark.heavy]

    def test_a_sample_holds_what_was_found_and_what_is_said_of_it(self, done: dict[str, Any]) -> None:
        dogs = [each for each in done["found"] if each["label"] == "dog"]
        assert len(dogs) >= 2
        for each in dogs:
            x, y, width, height = each["bounding_box"]
            assert 0 <= x < x + width <= 1 and 0 <= y < y + height <= 1
            assert 0 < each["confidence"] <= 1 and 0 < each["score"] <= 1 and each["caption"]
            assert each["tags"] == [] and isinstance(each["attribute_names"], list)
            shape, kind, filled = each["mask"]
            assert kind == "bool" and 0.2 < filled <= 1 and len(shape) == 2
        assert any("dog" in each["tag_names"] for each in dogs)

    def test_its_models_take_batches_of_any_images(self, done: dict[str, Any]) -> None:
        assert len(done["sizes"]) == 3 and done["sizes"][0] == len(done["found"])
        assert done["batch"] == [2, 2]

    def test_detections_that_are_there_are_described_and_kept(self, done: dict[str, Any]) -> None:
        mine, found = done["described"]
        assert mine["label"] == "mine" and mine["by"] == "a person" and mine["confidence"] == 0.25
        assert mine["bounding_box"] == [0.1, 0.2, 0.5, 0.6]
        assert mine["caption"] and mine["category"] and 0 < mine["category_probability"] <= 1
        assert found["label"] == "dog" and found["category"] == "dog" and found["mask"]
        assert done["empty"] == 0

    def test_a_field_that_is_not_there_is_named(self, done: dict[str, Any]) -> None:
        assert done["missing"] == "The sample has no field 'missing' with detections to describe."

    def test_it_draws_them(self, done: dict[str, Any]) -> None:
        assert len(done["drawn"]) == 3


def test_a_size_is_needed_where_the_image_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynrefer.model.detections._imported", lambda package: None)
    with pytest.raises(ImageError, match=r"size=\(width, height\)"):
        Descriptions([]).to_fiftyone()
