"""Views: boxes, crops, hash bits, searched views and view pixels.

Each test compares with the reference on images of our own, and with the official code where its photographs are
(`--goldens DIR` with the complete folder): then every field of processor.json, processor_phash.npz, edge_cases.json and
region_images_u8.npz, and `boxes` of the intermediates. Exact unless noted otherwise.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.crops import ViewBatch, cut_views
from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import (
    Box,
    box_from_polygons,
    boxes_in_views,
    boxes_towards,
    integer_crops,
)
from dynrefer.model.networks.dynrefer.vision import normalise
from dynrefer.model.run_lengths import box_from_rle, rle_runs
from dynrefer.model.types import Corners, ViewPlan
from dynrefer.model.views import GreyImage, plan_views
from tests.parity import reference
from tests.parity.conftest import Goldens, Views

LEAST_MARGIN = 1e-5  # of |coefficient - mean| / largest |coefficient|: closer calls are rounding
STATISTIC_TOLERANCE = 1e-6  # relative; the recorded statistics are sums in another order
COEFFICIENT_TOLERANCE = 4e-6  # relative to the largest coefficient: float32 in another order
PIXEL_TOLERANCE = 1e-6  # float32 rounding; one level of a byte is 0.014


def normalised(images: NDArray[np.uint8], processor: dict[str, Any]) -> NDArray[np.float32]:
    """What the network sees of (V, 3, S, S) bytes, by the recorded mean and deviation."""
    mean, std = (torch.tensor(processor[name], dtype=torch.float32) for name in ("mean", "std"))
    return normalise(torch.from_numpy(images), mean, std, torch.float32).numpy()


@dataclass(frozen=True)
class Case:
    """One recorded box on its photo."""

    name: str
    image: NDArray[np.uint8]
    grey: GreyImage
    record: dict[str, Any]

    @property
    def region(self) -> Box:
        """The region, clipped to the image as ours is."""
        return Box(*self.record["bbox_from_seq2mask"]).clip(self.grey.size)

    def runs(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The recorded numbers of views with what was recorded for each."""
        for key, run in self.record.items():
            if key.startswith("num_views_"):
                yield int(key.rsplit("_", 1)[1]), run


def read_photo(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB."""
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB"))


def corners_of(segmentation: list[list[float]] | dict[str, Any]) -> Corners:
    """The box of polygons or of a run-length mask."""
    if isinstance(segmentation, dict):
        return box_from_rle(segmentation)
    return box_from_polygons(segmentation)


def clipped(boxes: Any, grey: GreyImage) -> NDArray[np.float32]:
    """Recorded float boxes cut to the image: ours are, before anything else."""
    return np.clip(np.array(boxes, dtype=np.float32), 0, np.array(grey.size * 2, dtype=np.float32))


@pytest.fixture(scope="module")
def processor(recorded: Goldens, source: str) -> dict[str, Any]:
    """processor.json, with the reference's record of our own images in place of the photographs' on request."""
    record: dict[str, Any] = recorded.json("processor.json")
    if source == "reference":
        record["cases"] = reference.processor_record(recorded.processor)
    return record


@pytest.fixture(scope="module")
def hashes(recorded: Goldens, source: str, processor: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """processor_phash.npz, or the same of the reference."""
    if source == "official":
        with np.load(recorded.folder / "processor_phash.npz") as arrays:
            return dict(arrays)
    boxes = [record for image in processor["cases"] for record in image["boxes"]]
    return {f"{record['key']}_{name}": each for record in boxes for name, each in record["hashes"].items()}


@pytest.fixture(scope="module")
def read(recorded: Goldens, source: str) -> Callable[[str], NDArray[np.uint8]]:
    """Reads an image by its name."""
    return reference.read_image if source == "reference" else lambda name: read_photo(recorded.folder / "photos" / name)


@pytest.fixture(scope="module")
def cases(processor: dict[str, Any], read: Callable[[str], NDArray[np.uint8]]) -> list[Case]:
    """Every recorded box of processor.json."""
    found = []
    for photo in processor["cases"]:
        image = read(photo["file"])
        grey = GreyImage(image)
        for record in photo["boxes"]:
            found.append(Case(f"{photo['file']}:{record['name']}", image, grey, record))
    assert found
    return found


def bit_flipped(case: Case, plan: ViewPlan) -> bool:
    """Whether our distances differ from the recorded ones where a bit was too close to call."""
    differ = [candidate.distance for candidate in plan.candidates] != case.record["hamming"]
    return differ and bool(case.record["phash_min_rel_margin"] <= LEAST_MARGIN)


def planned(case: Case, num_views: int, view_size: int) -> tuple[ViewPlan, ViewBatch]:
    """Our views of a case by the image prior; the recorded ones where a close call flipped a bit."""
    plan = plan_views(case.grey, case.region, num_views=num_views)
    if num_views > 1 and bit_flipped(case, plan):
        recorded = case.record[f"num_views_{num_views}"]["selected_ratios"]
        plan = plan_views(case.grey, case.region, num_views=num_views, views=recorded)
        print(f"{case.name}: a bit too close to call fell the other way; views taken as recorded")
    return plan, cut_views(case.image, plan, view_size)


def test_images_are_the_recorded_ones(
    recorded: Goldens, source: str, processor: dict[str, Any], read: Callable[[str], NDArray[np.uint8]]
) -> None:
    for photo in processor["cases"]:
        height, width = read(photo["file"]).shape[:2]
        if source == "official":
            data = (recorded.folder / "photos" / photo["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == photo["sha256"]
            assert [width, height] == photo["size_wh"]
        else:
            assert all([width, height] == record["size_wh"] for record in photo["boxes"])


def test_boxes_of_polygons_and_masks(cases: list[Case], processor: dict[str, Any]) -> None:
    largest = 0.0
    records = [
        *((case.record["seg"], case.record["bbox_from_seq2mask"], case.record["mask_area"]) for case in cases),
        *((case["seg"], case["bbox"], case["mask_area"]) for case in processor["seq2mask_cases"]),
    ]
    for segmentation, box, area in records:
        largest = max(largest, np.abs(np.subtract(corners_of(segmentation), box)).max())
        if isinstance(segmentation, dict):  # a polygon's raster is not ours to make: masks do nothing else
            assert rle_runs(segmentation["counts"])[1::2].sum() == area
    print(f"boxes of {len(records)} polygons and masks: largest error {largest:g} px")
    assert largest == 0


def test_candidate_boxes(cases: list[Case], processor: dict[str, Any], hashes: dict[str, NDArray[Any]]) -> None:
    largest = 0.0
    for case in cases:
        record = case.record
        boxes = boxes_towards(tuple(record["bbox_from_seq2mask"]), case.grey.size, (0.0, *record["weights"]))
        recorded = hashes[f"{record['key']}_candidate_boxes"]
        assert np.array_equal(recorded, np.array([record["basic_box"], *record["candidate_boxes"]], np.float32))
        largest = max(largest, np.abs(boxes - recorded).max())
        plan = plan_views(case.grey, case.region, num_views=2)
        assert [candidate.t for candidate in plan.candidates] == record["weights"]
        ours = np.array([candidate.box for candidate in plan.candidates], np.float32)
        assert np.array_equal(ours, clipped(record["candidate_boxes"], case.grey))
    print(f"candidate boxes: largest error {largest:g} px")
    assert largest == 0


def bit_faults(recorded: NDArray[Any], bits: NDArray[Any], ours: NDArray[Any]) -> tuple[int, int]:
    """Our wrong bits: those of clear calls, and those closer than the least margin."""
    flat = recorded.reshape(len(recorded), -1).astype(np.float64)
    margins = np.abs(flat - flat.mean(axis=1, keepdims=True)) / np.abs(flat).max(axis=1, keepdims=True)
    wrong = ours != bits.astype(bool)
    return int((wrong & (margins > LEAST_MARGIN)).sum()), int((wrong & (margins <= LEAST_MARGIN)).sum())


def least_margins(coefficients: NDArray[np.float32]) -> tuple[float, float]:
    """The closest call of all views, absolute and relative to the view's largest coefficient."""
    flat = coefficients.reshape(len(coefficients), -1)
    least = np.abs(flat - flat.mean(axis=1, keepdims=True)).min(axis=1)
    return float(least.min()), float((least / np.abs(flat).max(axis=1)).min())


def test_hash_bits(cases: list[Case], hashes: dict[str, NDArray[Any]]) -> None:
    clear = close = 0
    largest = 0.0
    for case in cases:
        key = case.record["key"]
        crops = integer_crops(hashes[f"{key}_candidate_boxes"], case.grey.size)
        recorded = hashes[f"{key}_dct8"]
        ours = case.grey.low_frequencies(crops)
        scale = float(np.abs(recorded).max())
        largest = max(largest, float(np.abs(ours - recorded).max() / scale))
        faults = bit_faults(recorded, hashes[f"{key}_bits"], case.grey.hash_bits(crops))
        clear, close = clear + faults[0], close + faults[1]
        margin, relative = least_margins(ours)
        assert margin == pytest.approx(case.record["phash_min_margin"], abs=COEFFICIENT_TOLERANCE * scale)
        assert relative == pytest.approx(case.record["phash_min_rel_margin"], abs=2 * COEFFICIENT_TOLERANCE)
    print(f"hash: largest coefficient error {largest:.2g} relative; wrong bits {clear} clear, {close} close")
    assert clear == 0
    assert largest < COEFFICIENT_TOLERANCE


def test_distances_and_gains(cases: list[Case]) -> None:
    largest = 0.0
    for case in cases:
        plan = plan_views(case.grey, case.region, num_views=2)
        distances = [candidate.distance for candidate in plan.candidates]
        gains = [candidate.gain for candidate in plan.candidates]
        # A bit too close to call may fall the other way: it moves a distance by 1, or all by 1 at t = 0.
        slack = 1 if bit_flipped(case, plan) else 0
        assert np.abs(np.subtract(distances, case.record["hamming"])).max() <= slack
        if distances == case.record["hamming"]:
            largest = max(largest, np.abs(np.subtract(gains, case.record["score"])).max())
    print(f"distances and gains: largest error of a gain {largest:g}")
    assert largest == 0


def test_chosen_views_crops_and_in_view_boxes(cases: list[Case], processor: dict[str, Any]) -> None:
    compared = 0
    for case in cases:
        for num_views, run in case.runs():
            plan, batch = planned(case, num_views, processor["image_size"])
            ts = [view.t for view in plan.views]
            assert ts == run["selected_ratios"] == run["cascade_region_ratios"]
            boxes = np.array([view.box for view in plan.views], np.float32)
            assert np.array_equal(boxes, clipped(run["selected_float_boxes"], case.grey))
            assert integer_crops(boxes, case.grey.size).tolist() == run["integer_crop_boxes"]
            assert [list(Box(*view.box).crop(case.grey.size)) for view in plan.views] == run["integer_crop_boxes"]
            assert batch.boxes.tolist() == run["in_view_boxes"]
            compared += num_views
    print(f"{compared} chosen views: largest error 0 in t, boxes, crops and in-view boxes")
    assert compared


def sliced(views: NDArray[np.float32], key: str) -> NDArray[np.float32]:
    """The values that a key like view_slice_c0_rows0_8_64_cols0_8_64 names, of views (V, 3, S, S)."""
    channel, rows, columns = re.fullmatch(r"view_slice_c(\d+)_rows([\d_]+)_cols([\d_]+)", key).groups()  # type: ignore[union-attr]
    grid = np.ix_([int(row) for row in rows.split("_")], [int(column) for column in columns.split("_")])
    return np.stack([view[int(channel)][grid] for view in views])


def statistic_error(view: NDArray[np.float32], record: dict[str, float]) -> float:
    """The largest error of a view's statistics, relative to what is summed up in each."""
    values = view.astype(np.float64)
    ours = {"sum": values.sum(), "mean": values.mean(), "sumsq": (values**2).sum(), "std": values.std(ddof=1)}
    assert ours.keys() == record.keys()
    scales = dict(ours, sum=np.abs(values).sum(), mean=np.abs(values).mean())
    return max(float(abs(ours[name] - record[name]) / scales[name]) for name in ours)


def pixel_errors(case: Case, run: dict[str, Any], batch: ViewBatch, processor: dict[str, Any]) -> tuple[float, float]:
    """The largest error of a recorded pixel value, and of a statistic."""
    views = normalised(batch.images, processor)
    statistics = [statistic_error(*pair) for pair in zip(views, run["view_stats"], strict=True)]
    (key,) = (key for key in run if key.startswith("view_slice"))
    return float(np.abs(sliced(views, key) - np.array(run[key])).max()), max(statistics)


def test_view_pixels(cases: list[Case], processor: dict[str, Any]) -> None:
    pixel = statistic = 0.0
    for case in cases:
        for num_views, run in case.runs():
            _, batch = planned(case, num_views, processor["image_size"])
            errors = pixel_errors(case, run, batch, processor)
            pixel, statistic = max(pixel, errors[0]), max(statistic, errors[1])
    print(f"view pixels: largest error {pixel:g} of a value, {statistic:.2g} relative of a statistic")
    assert pixel < PIXEL_TOLERANCE
    assert statistic < STATISTIC_TOLERANCE


@pytest.fixture(scope="module")
def region_batches(recorded: Goldens, source: str, cases: list[Case], views: Views) -> list[ViewBatch]:
    """Our views of the regions that the network's goldens use, in their order; of our own images, of all regions."""
    names = recorded.generation["regions"] if source == "official" else [case.name for case in cases]
    by_name = {case.name: case for case in cases}
    return [planned(by_name[name], views.boxes.shape[1], views.images.shape[-1])[1] for name in names]


def test_region_images_and_boxes(region_batches: list[ViewBatch], views: Views) -> None:
    images = np.stack([batch.images for batch in region_batches])
    boxes = np.stack([batch.boxes for batch in region_batches])
    recorded, recorded_boxes = views.images.numpy().astype(np.int16), views.boxes.numpy()
    assert images.shape == recorded.shape and boxes.dtype == recorded_boxes.dtype
    pixel, corner = np.abs(images - recorded).max(), np.abs(boxes - recorded_boxes).max()
    print(f"{len(images)} regions: largest error {pixel} of a byte, {corner:g} of a box in its view")
    assert pixel == 0 and corner == 0


@pytest.fixture(scope="module")
def edge_cases(recorded: Goldens, source: str) -> dict[str, Any]:
    """edge_cases.json; where the official code gave views, the reference's of an image of the same size instead."""
    record: dict[str, Any] = recorded.json("edge_cases.json")
    if source == "reference":
        record["image"] = reference.ENLARGED
        image = reference.read_image(reference.ENLARGED)
        record["cases"] = [
            edge if "raises" in edge else edge | recorded.processor.edge_case(image, edge["seg"], edge["num_views"])
            for edge in record["cases"]
        ]
    return record


def test_edge_cases(
    edge_cases: dict[str, Any], processor: dict[str, Any], read: Callable[[str], NDArray[np.uint8]]
) -> None:
    image = read(edge_cases["image"])
    grey = GreyImage(image)
    largest = 0.0
    for edge in edge_cases["cases"]:
        if "seg" not in edge:  # the official model fails with one view; ours gives the region alone
            assert "raises" in edge
            assert len(plan_views(grey, Box(0, 0, *grey.size), num_views=1).views) == 1
            continue
        if "raises" in edge:
            assert_clipped_or_refused(grey, edge)
            continue
        plan = plan_views(grey, Box(*corners_of(edge["seg"])), num_views=edge["num_views"])
        batch = cut_views(image, plan, processor["image_size"])
        assert [view.t for view in plan.views] == edge["ratios"], edge["name"]
        assert batch.boxes.tolist() == edge["in_view_boxes"], edge["name"]
        views = normalised(batch.images, processor).astype(np.float64)
        errors = np.abs(views.sum(axis=(1, 2, 3)) - edge["sums"]) / np.abs(views).sum(axis=(1, 2, 3))
        largest = max(largest, errors.max())
    print(f"{len(edge_cases['cases'])} edge cases: largest relative error of a sum {largest:.2g}")
    assert largest < STATISTIC_TOLERANCE


def assert_clipped_or_refused(grey: GreyImage, edge: dict[str, Any]) -> None:
    """Where the official code fails, ours looks at what lies inside the image or says what is wrong."""
    try:
        plan = plan_views(grey, Box(*corners_of(edge["seg"])), num_views=edge["num_views"])
    except BoxError as error:
        print(f"edge case {edge['name']!r}: {error}")
        return
    assert len(plan.views) == edge["num_views"]
    boxes = np.array([view.box for view in plan.views], np.float32)
    assert np.array_equal(boxes, clipped(boxes, grey))
    print(f"edge case {edge['name']!r}: clipped to {plan.views[0].box}")


def test_the_comparison_detects_a_change(
    cases: list[Case], processor: dict[str, Any], hashes: dict[str, NDArray[Any]]
) -> None:
    """An image darker in a quarter of the region is distinguished, and so is a crop one pixel off."""
    case = cases[0]
    x1, y1, x2, y2 = case.region.crop(case.grey.size)
    touched = case.image.copy()
    touched[y1 : (y1 + y2) // 2, x1 : (x1 + x2) // 2] //= 2
    other = Case(case.name, touched, GreyImage(touched), case.record)
    num_views, run = max(case.runs())
    view_size = processor["image_size"]
    plan = plan_views(case.grey, case.region, num_views=num_views)
    pixel, statistic = pixel_errors(case, run, cut_views(touched, plan, view_size), processor)
    assert pixel > PIXEL_TOLERANCE and statistic > STATISTIC_TOLERANCE
    key = case.record["key"]
    crops = integer_crops(hashes[f"{key}_candidate_boxes"], case.grey.size)
    for grey, places in ((other.grey, crops), (case.grey, crops - np.array([0, 0, 1, 0]))):
        error = np.abs(grey.low_frequencies(places) - hashes[f"{key}_dct8"]).max()
        assert error > COEFFICIENT_TOLERANCE * np.abs(hashes[f"{key}_dct8"]).max()
    assert bit_faults(hashes[f"{key}_dct8"], hashes[f"{key}_bits"], other.grey.hash_bits(crops))[0] > 0


def test_a_box_that_is_a_little_off_is_detected(cases: list[Case], processor: dict[str, Any]) -> None:
    """In a view of a wide crop one pixel of the image can be less than truncation hides; `visible` pixels never are."""
    for case in cases:
        num_views, run = max(case.runs())
        assert num_views > 1
        recorded = np.array(run["integer_crop_boxes"])
        assert boxes_in_views(recorded, processor["image_size"]).tolist() == run["in_view_boxes"]
        visible = int(np.ceil((recorded[:, 2] - recorded[:, 0]).max() / processor["image_size"]))
        wider = recorded + np.array([0, 0, visible, 0]) * (np.arange(num_views) == 0)[:, None]
        boxes = boxes_in_views(wider, processor["image_size"])
        assert np.all(boxes[1:, 2] > np.array(run["in_view_boxes"])[1:, 2]), case.name
        moved = Box(case.region.x1, case.region.y1, case.region.x2 - 1, case.region.y2)
        assert list(moved.crop(case.grey.size)) != run["integer_crop_boxes"][0], case.name
