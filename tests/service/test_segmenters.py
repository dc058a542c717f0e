"""Which segmenter a service has: `--segmenter`, with the embedded model in real processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.masks import RegionMask, bitmap_from_mask
from tests.model.networks.segmenter.tiny_sam2 import save_tiny_sam2
from tests.repository import DOCS
from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

SCENE = in_base64((DOCS / "scene.png").read_bytes())
SNOWMAN, PIG = [{"x": 80, "y": 40}], [{"x": 78, "y": 115}]


def described(server: Server, *points: list[dict[str, float]]) -> list[dict[str, Any]]:
    regions = [{"points": each} for each in points]
    document = {"image": {"base64": SCENE}, "regions": regions, "task": "categories", "top_k": 1}
    status, answer = server.describe(document)
    assert status == 200, answer
    return [{name: each for name, each in region.items() if name != "id"} for region in answer["regions"]]


def without_times(regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in region.items() if name != "timings_ms"} for region in regions]


def test_the_embedded_one_finds_what_a_point_lies_on() -> None:
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as server:
        server.await_ready()
        both = described(server, SNOWMAN, PIG)
        assert [region["categories"][0]["name"] for region in both] == ["snowman", "pig"]
        for region, (x, y) in zip(both, ((80, 40), (78, 115)), strict=True):
            mask = bitmap_from_mask(RegionMask(tuple(region["mask"]["size"]), region["mask"]["counts"]))
            assert mask[y, x] and 500 < mask.sum() < 8_000
        alone = [*described(server, SNOWMAN), *described(server, PIG)]
        assert without_times(alone) == without_times(both)  # to the last digit
        assert server.end() == 0


def test_a_sam_2_of_a_directory_serves(tmp_path: Path) -> None:
    save_tiny_sam2(tmp_path)
    arguments = ("dynrefer.service.cli", "serve", "--device", "cpu", "--segmenter", str(tmp_path))
    with running(*arguments) as server:
        server.await_ready()
        both = described(server, SNOWMAN, PIG)
        assert all(region["mask"]["size"] == [231, 221] for region in both)
        assert without_times([*described(server, SNOWMAN), *described(server, PIG)]) == without_times(both)
        assert server.end() == 0


def test_none_refuses_points_and_a_wrong_directory_ends_the_start(tmp_path: Path) -> None:
    with running("dynrefer.service.cli", "serve", "--device", "cpu", "--segmenter", "none") as server:
        server.await_ready()
        request = {"image": {"base64": in_base64(image_bytes())}, "regions": [{"points": [{"x": 5, "y": 5}]}]}
        status, problem = server.describe(request)
        assert status == 422 and problem["errors"][0]["pointer"] == "/regions/0/points"
        assert server.end() == 0
    command = ["-m", "dynrefer.service.cli", "serve", "--device", "cpu", "--port", "0", "--segmenter", str(tmp_path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "configuration of the segmenter" in done.stderr and "Traceback" not in done.stderr
