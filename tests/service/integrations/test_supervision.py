"""`to_supervision()`, with supervision itself and a service process with the embedded model."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.detections import to_supervision
from tests.repository import ROOT
from tests.service.integrations.environments import python_with
from tests.service.integrations.snippets import check_snippets
from tests.service.server.test_process import running

SCRIPT = Path(__file__).parent / "in_supervision.py"
DOGS = ROOT / "benchmarks" / "photographs" / "two-dogs.jpg"

real = [pytest.mark.system, pytest.mark.server]


def test_without_the_package_one_sentence_says_how_to_get_it() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dynrefer\[supervision\]'"):
        to_supervision([])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What supervision knew."""
    with running("dynrefer.service.cli", "serve") as server:
        server.await_ready()
        folder = tmp_path_factory.mktemp("supervision")
        command = [python_with("supervision"), SCRIPT, server.address, DOGS]
        ran = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
        )
        assert ran.returncode == 0, ran.stderr[-4_000:]
        check_snippets("supervision.md", python_with("supervision"), server.address, folder)
    yield json.loads(ran.stdout.splitlines()[-1])


class TestReal:
    pytestmark = real

    def test_what_was_found_is_there_with_what_is_said_of_it(self, done: dict[str, Any]) -> None:
        found = done["found"]
        count = len(found["xyxy"])
        assert count >= 2 and found["dtypes"] == ["float32", "float32", "int64"]
        assert set(found["data"]) == {"class_name", "score", "caption", "tags", "attributes"}
        assert [["ball", "dog"][place] for place in found["class_id"]] == found["data"]["class_name"]
        assert found["data"]["class_name"].count("dog") >= 2
        assert all(0 < each <= 1 for each in found["confidence"]) and all(found["data"]["caption"])
        assert any("dog" in tags for tags in found["data"]["tags"])

    def test_masks_lie_in_their_boxes(self, done: dict[str, Any]) -> None:
        found = done["found"]
        assert found["mask"][0][0] == len(found["xyxy"]) and found["mask"][1] == "bool"
        for (x1, y1, x2, y2), (left, top, right, bottom) in zip(found["xyxy"], found["mask_bounds"], strict=True):
            assert x1 - 1 <= left <= right <= x2 + 1 and y1 - 1 <= top <= bottom <= y2 + 1

    def test_it_filters_merges_and_draws_them(self, done: dict[str, Any]) -> None:
        assert done["one"]["confidence"] == [max(done["found"]["confidence"])]
        assert done["one"]["data"]["caption"][0] in done["found"]["data"]["caption"]
        assert done["merged"] == done["found"]
        assert done["changed"] > 0.05

    def test_what_was_not_asked_for_is_absent(self, done: dict[str, Any]) -> None:
        assert set(done["plain"]["data"]) == {"class_name", "score"} and done["plain"]["mask"] is None
        assert set(done["described"]["data"]) == {"class_name", "caption", "tags", "attributes"}
        assert done["described"]["xyxy"] == [[100, 100, 300, 300], [0, 0, 90, 80]]
        assert done["nothing"] == 0

    def test_a_name_that_is_not_among_those_given_is_refused(self, done: dict[str, Any]) -> None:
        assert done["strange"] == "'dog' is not among the names ball."
