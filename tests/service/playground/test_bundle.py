"""The playground as it is committed: its size, what it names, its samples and licences. `make playground-check`, which
needs npm, compares it with its sources; tests/browser uses it."""

import gzip
import json
import re
from pathlib import Path

from PIL import Image

from dynrefer.service.playground import HERE
from tests.repository import ROOT
from tests.service.conftest import ApiClient

STATIC = HERE / "static"
APP = ROOT / "service" / "playground" / "app"
MOST_COMPRESSED_BYTES = 300 * 1024
MOST_SAMPLE_BYTES, MOST_SAMPLE_SIDE = 60_000, 640


def compressed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9))


def test_the_bundle_is_small() -> None:
    assert sum(compressed(STATIC / name) for name in ("playground.js", "playground.css")) < MOST_COMPRESSED_BYTES


def test_the_bundle_names_no_other_host() -> None:
    for name in ("playground.js", "playground.css", "playground.html"):
        text = (STATIC / name).read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[\w./-]+", text))
        assert {each for each in addresses if not each.startswith("http://www.w3.org/")} == set(), name
        assert "sourceMappingURL" not in text


def test_browsers_ask_whether_their_copy_is_current(api: ApiClient) -> None:
    for path in ("/", "/static/playground.js"):
        response = api.client.get(path)
        assert response.headers["cache-control"] == "no-cache"
        again = api.client.get(path, headers={"if-none-match": response.headers["etag"]})
        assert again.status_code == (304 if path.startswith("/static") else 200)


def test_the_lock_file_names_no_registry() -> None:
    text = (APP / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text and "registry." not in text
    assert text.count('"integrity"') > 10  # npm ci checks what it gets, wherever from


def test_every_package_of_the_bundle_has_its_licence() -> None:
    licences = (STATIC / "playground.licences.txt").read_text(encoding="utf-8")
    packages = json.loads((APP / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for name, version in {**packages, "svelte": "4"}.items():
        assert re.search(rf"^{re.escape(name)} {re.escape(version)} \(", licences, re.MULTILINE), name
    assert licences.count("Copyright") >= len(packages)


def test_samples_are_small_and_credited() -> None:
    samples = json.loads((STATIC / "samples" / "samples.json").read_text(encoding="utf-8"))
    assert {each["kind"] for each in samples} == {"drawing", "photograph"}
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for sample in samples:
        path = STATIC / "samples" / sample["file"]
        assert path.stat().st_size <= MOST_SAMPLE_BYTES and sample["file"] in notice
        assert sample["credit"] and sample["licence"] and sample["alt"]
        with Image.open(path) as image:
            width, height = image.size
        assert (width, height) == (sample["width"], sample["height"]) and max(width, height) <= MOST_SAMPLE_SIDE
        for left, top, right, bottom in sample["regions"]:
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert {path.name for path in (STATIC / "samples").iterdir()} == {
        "samples.json",
        *(each["file"] for each in samples),
    }
