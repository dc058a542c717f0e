"""What a run writes is read by the tools that it is written for: datumaro and Hugging Face's datasets."""

import json
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.job import run_job
from dynrefer.service.batch.planning import Job
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor
from tests.service.batch.inputs import make_images, write_requests

PACKAGES = ("datumaro==1.13.12", "datasets==5.2.0")
SCRIPT = Path(__file__).with_name("read_by_others.py")
REGIONS: dict[str, list[dict[str, Any]]] = {
    "0000.png": [{"id": "11", "box": [1, 2, 31, 22]}, {"id": "12", "box": [8, 8.5, 24, 40]}],
    "0001.png": [{"id": "13", "box": [0, 0, 64, 48]}],
}
CAPTIONS = {"0000.png": "pixel 0 0 7", "0001.png": "pixel 1 0 7"}

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
def python(pytestconfig: pytest.Config) -> Path:
    """That of an environment with the readers, whose packages clash with ours; it is kept between runs."""
    cache = pytestconfig.cache
    assert cache is not None
    folder = cache.mkdir("-".join(each.replace("==", "-") for each in PACKAGES))
    found, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return found
    venv.create(folder, with_pip=True, clear=True)
    command = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"datumaro cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    complete.touch()
    return found


@pytest.fixture(scope="module")
def read(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Reader -> image -> regions."""
    folder = tmp_path_factory.mktemp("written")
    make_images(folder / "in", 2)
    file = write_requests(
        folder / "requests.jsonl", [{"image": name, "regions": regions} for name, regions in REGIONS.items()]
    )
    for place in ("coco/annotations", "hf"):
        (folder / place).mkdir(parents=True)
    outputs = [
        folder / place
        for place in ("coco/annotations/instances_default.json", "out.yolo", "out.voc", "hf/metadata.jsonl")
    ]
    settings = Settings(worker_processes=0, max_queue_regions=1_000_000)
    job = Job(file, folder / "out.jsonl", Question(), settings, also=tuple(outputs), images=folder / "in", quiet=True)
    assert run_job(job, FakePredictor()) == 0
    shutil.copytree(folder / "in", folder / "coco" / "images")
    shutil.copy(outputs[0], outputs[0].with_name("captions_default.json"))
    shutil.copytree(folder / "in", folder / "hf", dirs_exist_ok=True)
    done = subprocess.run([python, SCRIPT, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def expected() -> dict[str, list[list[float]]]:
    """Image, without its ending -> boxes as x, y, width and height."""
    return {
        Path(name).stem: [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in (each["box"] for each in regions)]
        for name, regions in REGIONS.items()
    }


@pytest.mark.parametrize("reader", ["coco_instances", "yolo", "voc"])
def test_datumaro_reads_boxes_and_names(read: dict[str, Any], reader: str) -> None:
    for image, boxes in expected().items():
        found = sorted(box for _, box, _ in read[reader][image])
        assert found == [pytest.approx(each, abs=0.01) for each in sorted(boxes)]
        assert {name for name, _, _ in read[reader][image]} == {"dog"}


def test_datumaro_reads_captions_and_attributes(read: dict[str, Any]) -> None:
    for name, caption in CAPTIONS.items():
        image, count = Path(name).stem, len(REGIONS[name])
        assert [each["caption"] for _, _, each in read["coco_captions"][image]] == [caption] * count
        assert [each["caption"] for _, _, each in read["voc"][image]] == [caption] * count
        for reader in ("coco_instances", "voc"):
            assert all(each["color"] == "brown" and each["size"] == "small" for _, _, each in read[reader][image])


def test_datasets_reads_objects(read: dict[str, Any]) -> None:
    found = [regions for _, regions in sorted(read["hf"].items())]
    wanted = [
        [["dog", box, {"caption": CAPTIONS[f"{image}.png"]}] for box in boxes] for image, boxes in expected().items()
    ]
    assert found == wanted
