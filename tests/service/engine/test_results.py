"""The times of a request, from those of its regions."""

from dataclasses import replace

import numpy as np

from dynrefer.model import RegionQuery
from dynrefer.service.engine.reservations import RegionResult
from dynrefer.service.engine.results import total_stages
from tests.fakes import FakePredictor

IMAGE = np.zeros((48, 64, 3), dtype=np.uint8)


def test_stages_of_a_request() -> None:
    predictor = FakePredictor()
    prepared = list(predictor.prepare_each(IMAGE, [RegionQuery(box=(0, 0, 8, 8))] * 3))
    region = predictor.finish(prepared[0], 0.0)
    slow = replace(region, timings_ms={"views": 1.0, "vision": 5.0})
    outcomes = [RegionResult(0.0, None, queue_ms, batch) for queue_ms, batch in ((1.0, 7), (2.0, 7), (9.0, 8))]
    # The first two shared a batch, so they went through it at the same time; the third came after them.
    assert total_stages(list(zip([region, slow, slow], outcomes, strict=True))) == {
        "views": 2.5, "queue": 9.0, "vision": 10.0, "heads": 1.0, "caption": 3.0,
    }  # fmt: skip


def test_stages_of_a_request_whose_batches_overlap_are_those_of_the_slowest_region() -> None:
    predictor = FakePredictor()
    prepared = list(predictor.prepare_each(IMAGE, [RegionQuery(box=(0, 0, 8, 8))] * 2))
    region = predictor.finish(prepared[0], 0.0)
    slow = replace(region, timings_ms={"views": 1.0, "vision": 5.0})
    results = [RegionResult(0.0, None, queue_ms, batch, overlapping=True) for queue_ms, batch in ((1.0, 7), (9.0, 8))]
    assert total_stages(list(zip([region, slow], results, strict=True))) == {
        "views": 1.5, "queue": 9.0, "vision": 5.0, "heads": 1.0, "caption": 3.0,
    }  # fmt: skip
    # One that was run by itself came before or after them.
    results[1] = RegionResult(0.0, None, 9.0, 8)
    assert total_stages(list(zip([region, slow], results, strict=True)))["vision"] == 7.0
