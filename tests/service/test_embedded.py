"""The embedded model behind the real command line: served over HTTP, and run without a server."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.repository import DOCS
from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_process import Server, request_bytes, running

pytestmark = pytest.mark.server

REGIONS = [{"id": "left", "box": [4, 4, 30, 40]}, {"box": [-4, 0, 60, 48]}]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A real process, for all tests of this file."""
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as server:
        server.await_ready()
        yield server
        assert server.end() == 0


def test_serves_all_four_outputs(server: Server) -> None:
    status, answer = server.describe({"image": {"base64": in_base64(image_bytes())}, "regions": REGIONS})
    assert status == 200
    assert [region["id"] for region in answer["regions"]] == ["left", "1"]
    for region in answer["regions"]:
        assert region["view_policy"] == "image_prior"
        assert region["caption"]["text"]
        assert len(region["attributes"]) == len(region["categories"]) == 10
        assert all(0 <= label["probability"] <= 1 for label in region["tags"] + region["categories"])
    assert set(answer["timings_ms"]) == {
        "decode", "views", "queue", "vision", "heads", "caption", "total",
    }  # fmt: skip
    (card,) = json.loads(server.get("/v1/models")[1])["models"]
    assert card["trained_on"] and card["parameters"] > 0


def test_names_in_the_language_that_is_asked_for(server: Server) -> None:
    image = (DOCS / "chelsea.jpg").read_bytes()
    request = {"image": {"base64": in_base64(image)}, "regions": [{"box": [90, 40, 300, 250]}], "language": "zh-Hans"}
    status, answer = server.describe({**request, "vocabulary": {"categories": "coco", "tags": "model"}})
    assert status == 200
    (region,) = answer["regions"]
    assert region["categories"][0]["name"] == "猫" and region["caption"]["name"] == "cat"
    assert {"猫", "动物"} <= {tag["name"] for tag in region["tags"]}
    assert all(each["name"] == f"{each['type']}:{each['value']}" for each in region["attributes"])
    status, words = server.get("/v1/vocabularies/model")
    assert status == 200
    categories = {each["name"]: each.get("translations", {}) for each in json.loads(words)["categories"]}
    assert categories["tie"]["de"] == "Krawatte"


def test_captions_of_a_request_s_own_search(server: Server) -> None:
    image = (DOCS / "scene.png").read_bytes()
    request = {"image": {"base64": in_base64(image)}, "regions": [{"box": [41, 2, 117, 82]}], "task": "caption"}
    status, answer = server.describe({**request, "num_captions": 3, "max_words": 6})
    assert status == 200
    caption = answer["regions"][0]["caption"]
    texts = [each["text"] for each in caption["candidates"]]
    assert 2 <= len(texts) <= 3 and len(set(texts)) == len(texts) and texts[0] == caption["text"]
    assert all(len(text.split()) <= 6 and "snowman" in text for text in texts)
    assert set(caption["candidates"][0]) == {"text", "score", "logprob_sum", "logprob_mean"}
    _, usual = server.describe(request)
    assert "candidates" not in usual["regions"][0]["caption"]


def test_a_region_has_the_same_results_alone_and_in_a_batch(server: Server) -> None:
    image = {"base64": in_base64(image_bytes())}
    _, both = server.describe({"image": image, "regions": REGIONS})
    _, alone = server.describe({"image": image, "regions": REGIONS[:1]})
    first, second = both["regions"][0], alone["regions"][0]
    assert first["caption"]["text"] == second["caption"]["text"]
    for task in ("tags", "attributes", "categories"):
        for one, other in zip(first[task], second[task], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def without_times(server: Server, document: dict[str, Any]) -> bytes:
    """The response's bytes without its times."""
    head = request_bytes(document).replace(b"Host: x", b"Host: x\r\nX-Request-Id: same\r\nConnection: close")
    with server.connect() as connection:
        connection.sendall(head)
        data = b""
        while received := connection.recv(65_536):
            data += received
    assert data.startswith(b"HTTP/1.1 200 ")
    return re.sub(rb'"timings_ms":\{[^}]*\}', b"", data.partition(b"\r\n\r\n")[2])


def test_the_same_request_gives_the_same_bytes_alone_in_a_batch_and_after_a_restart(server: Server) -> None:
    image = {"base64": in_base64((DOCS / "scene.png").read_bytes())}
    boxes = [[41, 2, 117, 82], [50, 89, 105, 138], [57, 148, 122, 229], [10, 10, 200, 220]]
    documents = [{"image": image, "regions": [{"box": box}]} for box in boxes]
    documents.append({"image": image, "regions": [{"box": box} for box in boxes], "task": "caption"})
    alone = [without_times(server, document) for document in documents]
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(lambda document: without_times(server, document), documents * 2))
    assert together == alone * 2
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as again:
        again.await_ready()
        assert [without_times(again, document) for document in documents] == alone


@pytest.mark.parametrize("command", ["describe", "views"])
def test_the_command_line_draws(command: str, tmp_path: Path) -> None:
    source, drawing = tmp_path / "a.png", tmp_path / "out.png"
    source.write_bytes(image_bytes())
    arguments = [command, str(source), "--box", "4,4,30,40", "--box=-4,0,60,48", "--draw", str(drawing)]
    extra = ["--json"] if command == "describe" else []
    done = subprocess.run(
        [sys.executable, "-m", "dynrefer.service.cli", *arguments, *extra], capture_output=True, text=True, check=True
    )
    with Image.open(drawing) as drawn:
        assert np.asarray(drawn.convert("L")).std() > 0
    if command == "describe":
        regions = json.loads(done.stdout)
        assert [region["clipped"] for region in regions] == [False, True]
        assert all({"caption", "tags", "attributes", "categories"} <= set(region) for region in regions)


def test_the_command_line_refuses_a_box_outside(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(image_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "dynrefer.service.cli", "describe", str(source), "--box", "100,100,120,120"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("dynrefer: ") and done.stderr.count("\n") == 1


def test_the_command_line_answers_in_other_words(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"name": "mine", "categories": ["feline", "tractor"]}')
    command = [sys.executable, "-m", "dynrefer.service.cli", "describe", str(DOCS / "chelsea.jpg"), "--json"]
    command += ["--box", "90,40,300,250", "--task", "categories"]
    for options, expected in (
        (["--vocabulary", "coco", "--language", "de"], "Katze"),
        (["--vocabulary", str(tmp_path / "mine.json")], "feline"),
    ):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        (region,) = json.loads(done.stdout)
        assert region["categories"][0]["name"] == expected and region["categories"][0]["probability"] > 0.9
