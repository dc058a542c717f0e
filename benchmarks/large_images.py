"""What image work costs on large images: views, hashes and evidence crops of 1, 8 and 64 regions.

    python -m benchmarks.large_images [--photos DIR] [--megapixels 0.3 12 50] [--regions 1 8 64]

Both ways of cutting are measured on the same regions: "fast" is what is served, large crops from reduced copies
(`model/pyramid.py`); "exact" is the reference path, every crop from all of its pixels. Seconds are those of the
processor. Bytes are counted where pixels are cut or sampled; what must be read is the image, once.

Then labelled photographs (a folder as `dynrefer evaluate --photos` takes it; default benchmarks/photographs) are
enlarged to 12 megapixels, and the crops of both ways are compared in grey levels, beside those of Pillow's own reducing
per crop, and so are the answers. Writes benchmarks/results/large_images.json.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model import DynRefer, RegionQuery, Task, preparation, pyramid
from dynrefer.model.crops import GAP
from dynrefer.model.geometry import Box, IntCorners
from dynrefer.model.images import Pixels, decode_image
from dynrefer.model.preparation import PreparationSpec, PreparedRegion
from dynrefer.model.pyramid import REDUCE_FROM_PIXELS, ImagePyramid
from dynrefer.model.types import Corners, RegionDescription
from dynrefer.model.views import GreyImage
from dynrefer.workbench.data.photographs import read_photographs
from dynrefer.workbench.profiling.machine import ROOT, provenance

RESULT = Path(__file__).parent / "results" / "large_images.json"
PHOTOS = Path(__file__).parent / "photographs"
PICTURE = ROOT / "docs" / "images" / "chelsea.jpg"
ASPECT = 4 / 3
TASKS: dict[str, tuple[Task, ...] | None] = {"null": None, "caption": (Task.CAPTION,), "four": tuple(Task)}
ENLARGED = 12.0  # megapixels
EXACT = 1 << 62  # pixels that no crop has


@dataclass
class Work:
    """What one request's image work took. Bytes: read of the image, for crops and for hashes; read of its copies; held
    beside the image, as copies and as grey pixels."""

    cpu_s: float = 0.0
    read_for_crops: int = 0
    read_for_hashes: int = 0
    read_of_copies: int = 0
    held: int = 0


def sized(picture: Image.Image, megapixels: float) -> Pixels:
    """The picture as so many megapixels of four to three, with a little noise: (H, W, 3) uint8."""
    width = round((megapixels * 1e6 * ASPECT) ** 0.5)
    height = round(width / ASPECT)
    pixels = np.array(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).integers(0, 9, (height, width, 1), dtype=np.uint8)
    np.minimum(pixels, 255 - noise, out=pixels)
    pixels += noise
    return pixels


def boxes(count: int, width: int, height: int) -> list[Corners]:
    """Large boxes, no two alike, as a hostile client would ask for them."""
    across, down = width / 1000, height / 1000
    return [(3 * i * across, 4 * i * down, (990 - i) * across, (990 - 2 * i) * down) for i in range(count)]


@contextmanager
def preparing(image: Pixels, exact: bool) -> Iterator[Work]:
    """Inside, preparation cuts every crop from all of its pixels, if `exact`, and what it takes is counted."""
    work = Work()
    crop_pixels, sample = pyramid.crop_pixels, GreyImage._sampled
    made: list[ImagePyramid | GreyImage] = []

    def cropping(source: Pixels | Image.Image, corners: IntCorners) -> Image.Image:
        read = (corners[2] - corners[0]) * (corners[3] - corners[1]) * 3
        if source is image:
            work.read_for_crops += read
        else:
            work.read_of_copies += read
        return crop_pixels(source, corners)

    def sampling(
        grey: GreyImage, corners: tuple[int, ...], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        found = sample(grey, corners, rows, columns)
        if "pixels" not in vars(grey):
            work.read_for_hashes += found.size * 3
        return found

    def pyramid_of(pixels: Pixels) -> ImagePyramid:
        made.append(found := ImagePyramid(pixels, EXACT) if exact else ImagePyramid(pixels))
        return found

    def grey_of(pixels: Pixels) -> GreyImage:
        made.append(found := GreyImage(pixels))
        return found

    with (
        mock.patch.object(pyramid, "crop_pixels", cropping),
        mock.patch.object(GreyImage, "_sampled", sampling),
        mock.patch.object(preparation, "ImagePyramid", pyramid_of),
        mock.patch.object(preparation, "GreyImage", grey_of),
    ):
        started = time.process_time()
        yield work
        work.cpu_s = time.process_time() - started
    for each in made:
        if isinstance(each, ImagePyramid):
            work.held += each.bytes
        elif "pixels" in vars(each):
            work.held += each.pixels.nbytes
            work.read_for_hashes += image.nbytes


def measure(image: Pixels, count: int, tasks: tuple[Task, ...] | None, spec: PreparationSpec) -> dict[str, Any]:
    """One request's image work in both ways. What must be read is the whole image once, since the evidence looks at all
    of it: every count of bytes is a multiple of the image's."""
    queries = [RegionQuery(box, tasks) for box in boxes(count, image.shape[1], image.shape[0])]
    row: dict[str, Any] = {}
    for name, exact in (("fast", False), ("exact", True)):
        with preparing(image, exact) as work:
            preparation.prepare(image, queries, spec)
        row[name] = {
            "cpu_s": round(work.cpu_s, 3),
            **{
                f"{kind}_over_image": round(getattr(work, kind) / image.nbytes, 3)
                for kind in ("read_for_crops", "read_for_hashes", "read_of_copies", "held")
            },
        }
    return row


def measure_all(
    sizes: Sequence[float], counts: Sequence[int], spec: PreparationSpec, picture: Image.Image
) -> list[dict[str, Any]]:
    """A row per image, number of regions and tasks."""
    rows = []
    for megapixels in sizes:
        image = sized(picture, megapixels)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=85)
        started = time.process_time()
        decode_image(file.getvalue(), image.size)
        decoding = round(time.process_time() - started, 3)
        for count in counts:
            for name, tasks in TASKS.items():
                found = measure(image, count, tasks, spec)
                asked = {"megapixels": megapixels, "regions": count, "task": name}
                rows.append({**asked, "decode_cpu_s": decoding, **found})
                fast, exact = found["fast"]["cpu_s"], found["exact"]["cpu_s"]
                print(f"{megapixels:g} MP, {count} regions, task {name}: {fast} s, exact {exact} s", file=sys.stderr)
    return rows


@dataclass
class Difference:
    """Grey levels between two ways of cutting the same crops: the mean over crops, and the largest of any pixel."""

    total: float = 0.0
    crops: int = 0
    largest: int = 0

    def add(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
        difference = np.abs(one.astype(np.int16) - other)
        self.total += float(difference.mean())
        self.crops += 1
        self.largest = max(self.largest, int(difference.max()))

    @property
    def report(self) -> dict[str, Any]:
        return {"crops": self.crops, "mean": round(self.total / max(self.crops, 1), 3), "largest": self.largest}


def compare(predictor: DynRefer, folder: Path, megapixels: float = ENLARGED) -> dict[str, Any]:
    """The crops and the answers of both ways on enlarged photographs, and on noise of the same size."""
    views, pillow, evidence, noise = (Difference() for _ in range(4))
    regions = names = tags = captions = right = exact_right = 0
    for photograph in read_photographs(folder):
        opened = Image.open(photograph.path).convert("RGB")
        factor = (megapixels * 1e6 / (opened.width * opened.height)) ** 0.5
        size = round(opened.width * factor), round(opened.height * factor)
        image = np.asarray(opened.resize(size, Image.Resampling.BICUBIC))
        scale = np.array([size[0] / opened.width, size[1] / opened.height] * 2)
        queries = [RegionQuery(tuple((np.array(each.box) * scale).tolist())) for each in photograph.boxes]
        fast, exact = (_prepared(image, queries, predictor.preparation, exact) for exact in (False, True))
        for one, other in zip(fast, exact, strict=True):
            _compare_crops(image, one, other, views, pillow, evidence)
        answers = [
            [predictor.finish(*each) for each in zip(part, predictor.run(part), strict=True)] for part in (fast, exact)
        ]
        for one_answer, other_answer, label in zip(*answers, photograph.boxes, strict=True):
            regions += 1
            names += _first(one_answer, Task.CATEGORIES) == _first(other_answer, Task.CATEGORIES)
            tags += _first(one_answer, Task.TAGS) == _first(other_answer, Task.TAGS)
            captions += _caption(one_answer) == _caption(other_answer)
            right += _first(one_answer, Task.CATEGORIES) in label.accepted
            exact_right += _first(other_answer, Task.CATEGORIES) in label.accepted
    static = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    queries = [RegionQuery(box) for box in boxes(8, 4000, 3000)]
    found = (_prepared(static, queries, predictor.preparation, exact) for exact in (False, True))
    for one, other in zip(*found, strict=True):
        _compare_crops(static, one, other, noise, Difference(), Difference())
    return {
        "photographs": folder.name,
        "megapixels": megapixels,
        "grey_levels": {
            "views": views.report,
            "views_by_pillows_reducing_gap": pillow.report,
            "evidence": evidence.report,
            "views_of_noise": noise.report,
        },
        "regions": regions,
        "same_first_category": names,
        "same_first_tag": tags,
        "same_caption": captions,
        "right_first_category": right,
        "right_first_category_exact": exact_right,
    }


def _prepared(
    image: Pixels, queries: Sequence[RegionQuery], spec: PreparationSpec, exact: bool
) -> list[PreparedRegion]:
    with preparing(image, exact):
        return preparation.prepare(image, queries, spec)


def _compare_crops(
    image: Pixels,
    one: PreparedRegion,
    other: PreparedRegion,
    views: Difference,
    pillow: Difference,
    evidence: Difference,
) -> None:
    """Adds the differences of one region's crops; of small ones, which are the same to the byte, none."""
    for mine, theirs in zip(one.inputs, other.inputs, strict=True):
        for view, fast, exact in zip(mine.plan.views, mine.views.images, theirs.views.images, strict=True):
            x1, y1, x2, y2 = Box(*view.box).crop((image.shape[1], image.shape[0]))
            if (x2 - x1) * (y2 - y1) < REDUCE_FROM_PIXELS:
                continue
            views.add(fast, exact)
            cut = Image.fromarray(image[y1:y2, x1:x2])
            resized = cut.resize(fast.shape[1:], Image.Resampling.BICUBIC, reducing_gap=GAP)
            pillow.add(np.asarray(resized).transpose(2, 0, 1), exact)
    ours, reference = one.inputs[0].evidence, other.inputs[0].evidence
    if ours and reference:
        for name in ("crop", "windows"):
            evidence.add(getattr(ours, name), getattr(reference, name))


def _first(answer: RegionDescription, task: Task) -> str | None:
    labels = answer.results.get(task)
    return labels[0].name if labels else None


def _caption(answer: RegionDescription) -> str | None:
    return None if answer.caption is None else answer.caption.text


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_images", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="[benchmarks/photographs]")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.3, 12, 50], help="of the images [0.3 12 50]")
    parser.add_argument("--regions", type=int, nargs="+", default=[1, 8, 64], help="of a request [1 8 64]")
    parser.add_argument("--enlarged", type=float, default=ENLARGED, help="megapixels of the photographs [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/large_images.json]")
    given = parser.parse_args(arguments)
    if min(given.megapixels) <= 0 or min(given.regions) < 1 or given.enlarged <= 0:
        parser.error("--megapixels, --regions and --enlarged must be positive.")
    predictor = DynRefer.load("embedded", device="cpu")
    with Image.open(PICTURE) as picture:
        rows = measure_all(given.megapixels, given.regions, predictor.preparation, picture)
    report = {**provenance(), "rows": rows, "compared": compare(predictor, given.photos, given.enlarged)}
    text = json.dumps(report, indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
