"""`explain` and `view_policy` over HTTP and on the command line, with the embedded model."""

import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.repository import DOCS
from tests.service.conftest import in_base64
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

SCENE = (DOCS / "scene.png").read_bytes()
BOX = [41, 2, 117, 82]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A real process, for all tests of this file."""
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as server:
        server.await_ready()
        yield server
        assert server.end() == 0


def described(server: Server, image: bytes = SCENE, **fields: Any) -> dict[str, Any]:
    """The answer about one region, unless others are named."""
    document = {"image": {"base64": in_base64(image)}, "regions": [{"box": BOX}], **fields}
    status, answer = server.describe(document)
    assert status == 200, answer
    return answer


def test_the_explanation_of_a_region(server: Server) -> None:
    (region,) = described(server, explain=True, top_k=3)["regions"]
    found = region["explanation"]
    assert set(found) == {"views", "priors", "words", "labels", "controls", "evidence"}
    assert [view["t"] for view in found["views"]] == [step / 10 for step in range(11)]
    assert [view["t"] for view in found["views"] if view["chosen"]] == sorted(view["t"] for view in region["views"])
    assert all(len(view["hash"]) == 16 and "thumbnail" not in view for view in found["views"])
    text = region["caption"]["text"]
    assert all(text[slice(*word["span"])] == word["text"] for word in found["words"])
    (noun,) = [word for word in found["words"] if word["text"] == region["caption"]["name"]]
    assert noun["support"]["probability"] == region["caption"]["probability"]
    for task, labels in found["labels"].items():
        assert [label["name"] for label in labels] == [label["name"] for label in region[task]]
    assert found["evidence"]["domain"] == "drawing"


def test_without_it_nothing_is_added(server: Server) -> None:
    plain, explained = (described(server, explain=explain)["regions"][0] for explain in (False, {}))
    for region in (plain, explained):
        del region["timings_ms"]
    assert "explanation" not in plain
    assert plain == {name: value for name, value in explained.items() if name != "explanation"}


def test_views_alone_and_thumbnails(server: Server) -> None:
    asked = {"candidates": False, "thumbnails": True, "evidence": False}
    (region,) = described(server, explain=asked, task="tags", view_policy="image_prior")["regions"]
    found = region["explanation"]
    assert set(found) == {"views", "priors"} and region["view_policy"] == "image_prior"
    assert found["priors"] == [{"tasks": ["tags"], "policy": "image_prior", "t": [0.0, 0.1, 0.2]}]
    for view in found["views"]:
        assert view["chosen"] and view["tasks"] == ["tags"]
        with urllib.request.urlopen(f"data:image/webp;base64,{view['thumbnail']}") as data:
            assert Image.open(io.BytesIO(data.read())).format == "WEBP"


def test_regions_of_points_and_masks_and_own_words(server: Server) -> None:
    polygon = [[41, 2], [117, 2], [117, 82], [41, 82]]
    regions = [{"points": [{"x": 79, "y": 50}]}, {"polygon": [polygon], "highlight": True}]
    answer = described(server, regions=regions, vocabulary={"categories": ["snowman", "sneaker"]}, explain=True)
    for region in answer["regions"]:
        assert [view["t"] for view in region["explanation"]["views"]] == [step / 10 for step in range(11)]
        assert region["explanation"]["views"][0]["box"] == pytest.approx(region["box"], abs=0.01)
        first = region["explanation"]["labels"]["categories"][0]
        assert first["source"] == "placement" and first["senses"][0]["word"] == first["name"]


def test_in_a_url_and_with_failing_regions(server: Server) -> None:
    query = "box=41,2,117,82&box=900,900,950,950&task=caption&explain.thumbnails=false&on_region_error=report"
    request = urllib.request.Request(f"{server.address}/v1/describe?{query}", SCENE, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request) as response:
        good, bad = json.load(response)["regions"]
    assert good["explanation"]["words"] and "labels" not in good["explanation"] and "error" in bad


def test_boxes_are_in_the_frame_of_the_request(server: Server) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(SCENE)) as opened:
        turned = Image.fromarray(np.rot90(np.asarray(opened.convert("RGB"))))  # upright once turned by the EXIF tag
    turned.save(file, "PNG", exif=exif)
    width, height = turned.size
    box = [BOX[1], height - BOX[2], BOX[3], height - BOX[0]]
    answer = described(server, file.getvalue(), regions=[{"box": box}], orientation="stored", explain=True)
    views = answer["regions"][0]["explanation"]["views"]
    assert views[0]["box"] == box and views[-1]["box"] == [0, 0, width, height]
    assert [view["hash"] for view in views] == [
        view["hash"] for view in described(server, explain=True)["regions"][0]["explanation"]["views"]
    ]


def test_the_command_line_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dynrefer.service.cli"]
    scene = str(DOCS / "scene.png")
    told = subprocess.run(
        [*command, "describe", scene, "--box", "41,2,117,82", "--explain"], capture_output=True, text=True, check=True
    ).stdout
    assert "t = 0, 0.1, 0.2 by the image prior" in told
    assert "snowman: categories: snowman" in told and "carried by the view" in told
    drawing = tmp_path / "candidates.png"
    subprocess.run(
        [*command, "views", scene, "--box", "41,2,117,82", "--candidates", "--draw", str(drawing)], check=True
    )
    with Image.open(drawing) as drawn:
        assert drawn.width > 1000 and np.asarray(drawn.convert("L")).std() > 0
