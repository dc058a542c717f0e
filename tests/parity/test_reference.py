"""The reference against the official numbers: those without pixels always, all where the photographs are present."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dynrefer.model.geometry import Box, boxes_in_views, boxes_towards, integer_crops
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.views import greedy_picks, plan_views
from tests.model.test_views import plain_low_frequencies
from tests.parity import reference
from tests.parity.conftest import Comparison, Goldens, Views
from tests.parity.stages import TIGHT
from tests.parity.test_views import COEFFICIENT_TOLERANCE, LEAST_MARGIN, STATISTIC_TOLERANCE, read_photo


@pytest.fixture(scope="module")
def records(recorded: Goldens) -> list[tuple[tuple[int, int], dict[str, Any]]]:
    """Size of the photograph, and what processor.json says of a box on it."""
    return [
        (tuple(photo["size_wh"]), record)
        for photo in recorded.json("processor.json")["cases"]
        for record in photo["boxes"]
    ]


def runs_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for key, run in record.items() if key.startswith("num_views_")]


@pytest.fixture(scope="module")
def hashes(recorded: Goldens) -> dict[str, NDArray[Any]]:
    """processor_phash.npz."""
    with np.load(recorded.folder / "processor_phash.npz") as arrays:
        return dict(arrays)


def test_boxes_and_crops_are_the_official_ones(records: list[tuple[tuple[int, int], dict[str, Any]]]) -> None:
    for size, record in records:
        box = reference.box_of(record["seg"])
        assert box == record["bbox_from_seq2mask"]
        assert [reference.towards(box, size, t) for t in (0.0, *reference.STEPS)] == [
            record["basic_box"],
            *record["candidate_boxes"],
        ]
        for run in runs_of(record):
            boxes = [reference.towards(box, size, t) for t in run["selected_ratios"]]
            crops = [reference.crop_of(each, size) for each in boxes]
            assert boxes == run["selected_float_boxes"]
            assert crops == run["integer_crop_boxes"]
            assert [reference.in_view(crops[0], crop, 224) for crop in crops] == run["in_view_boxes"]


def test_our_boxes_and_crops_are_the_official_ones(records: list[tuple[tuple[int, int], dict[str, Any]]]) -> None:
    """Of the recorded views, whose search needs pixels."""
    for size, record in records:
        corners = tuple(record["bbox_from_seq2mask"])
        for run in runs_of(record):
            boxes = boxes_towards(corners, size, run["selected_ratios"])
            assert boxes.tolist() == run["selected_float_boxes"]
            crops = integer_crops(boxes, size)
            assert crops.tolist() == run["integer_crop_boxes"]
            assert boxes_in_views(crops, 224).tolist() == run["in_view_boxes"]


def test_our_boxes_of_edge_cases_are_the_official_ones(recorded: Goldens) -> None:
    image = reference.read_image(reference.ENLARGED)
    compared = 0
    for edge in recorded.json("edge_cases.json")["cases"]:
        if "ratios" in edge:
            box = Box(*reference.box_of(edge["seg"]))
            plan = plan_views(image, box, num_views=edge["num_views"], views=edge["ratios"])
            crops = integer_crops(np.array([view.box for view in plan.views], np.float32), reference.GOLDEN_SIZE)
            assert boxes_in_views(crops, 224).tolist() == edge["in_view_boxes"], edge["name"]
            compared += 1
    assert compared


def test_bits_distances_and_picks_follow_from_the_official_coefficients(
    records: list[tuple[tuple[int, int], dict[str, Any]]], hashes: dict[str, NDArray[Any]]
) -> None:
    for _, record in records:
        coefficients = hashes[f"{record['key']}_dct8"]
        bits = [reference.bits_of(each) for each in coefficients]
        assert np.array_equal(bits, hashes[f"{record['key']}_bits"].astype(bool).reshape(len(bits), -1))
        hamming, scores = reference.scores_of(bits)
        assert hamming == record["hamming"] and scores == record["score"]
        for run in runs_of(record):
            count = len(run["selected_ratios"]) - 1
            assert [0.0, *reference.picks_of(scores, count)] == run["selected_ratios"]
            assert [0.0, *(reference.STEPS[pick] for pick in greedy_picks(scores, count))] == run["selected_ratios"]


def test_pixels(recorded: Goldens, source: str, hashes: dict[str, NDArray[Any]], compare: Comparison) -> None:
    """Of the official photographs; in a plain clone, the hash of our own images against one written out in loops."""
    if source == "official":
        for photo in recorded.json("processor.json")["cases"]:
            image = read_photo(recorded.folder / "photos" / photo["file"])
            for record in photo["boxes"]:
                compare_record(recorded, image, record, hashes[f"{record['key']}_dct8"], compare)
        return
    for photo in reference.processor_record(recorded.processor):
        image = reference.read_image(photo["file"])
        for record in photo["boxes"]:
            size = tuple(record["size_wh"])
            crops = [reference.crop_of(box, size) for box in record["hashes"]["candidate_boxes"]]
            again = np.stack([plain_low_frequencies(image, tuple(crop)) for crop in crops])
            error = np.abs(record["hashes"]["dct8"] - again).max() / np.abs(again).max()
            compare.number(f"{record['key']}: coefficients", float(error), COEFFICIENT_TOLERANCE)


def compare_record(
    recorded: Goldens, image: NDArray[np.uint8], record: dict[str, Any], dct8: NDArray[Any], compare: Comparison
) -> None:
    """The reference's hash and views of one box against the official ones."""
    ours = recorded.processor.record(record["key"], record["name"], image, record["seg"])
    error = np.abs(ours["hashes"]["dct8"] - dct8).max() / np.abs(dct8).max()
    compare.number(f"{record['key']}: coefficients", float(error), COEFFICIENT_TOLERANCE)
    if record["phash_min_rel_margin"] > LEAST_MARGIN:
        assert ours["hamming"] == record["hamming"]
    for run in runs_of(record):
        again = recorded.processor.run(image, record["bbox_from_seq2mask"], run["selected_ratios"])
        for mine, other in zip(again["view_stats"], run["view_stats"], strict=True):
            error = abs(mine["sumsq"] - other["sumsq"]) / other["sumsq"]
            compare.number(f"{record['key']}: pixels", error, STATISTIC_TOLERANCE)


def test_vision_tower(recorded: Goldens, network: DynReferModel, views: Views, compare: Comparison) -> None:
    """Against the official tokens; in a plain clone, against the class of transformers that our network has."""
    state = recorded.tensors(recorded.state_file.stem)
    heads = recorded.json("tiny_config.json")["cfg"]["vit"]["num_heads"]
    settings = recorded.processor.mean, recorded.processor.std
    tokens = reference.vision_tokens(views.images.flatten(0, 1), state, heads, *settings)
    pixels = [reference.normalised(image, *settings) for image in views.images.flatten(0, 1).numpy()]
    theirs = network.vision.tower(pixel_values=torch.from_numpy(np.stack(pixels))).last_hidden_state
    compare.tensor("of transformers", tokens, theirs, TIGHT)
    compare.tensor("expected", tokens, views.tokens, TIGHT)
