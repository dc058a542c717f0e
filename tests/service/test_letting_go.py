"""What a request that failed held is free at once, not when the garbage collector comes by."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from httpx2 import Response
from numpy.typing import NDArray

from dynrefer.model import Corners, RegionQuery
from dynrefer.model.errors import DeviceMemoryError, QueryError
from tests.fake_preparation import FakeRegion
from tests.fakes import FakePredictor
from tests.service.conftest import ApiFactory, image_bytes, in_base64, one_region

WAIT_S = 10.0


class Watched(FakePredictor):
    """It knows, without holding them, the regions that it has prepared."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[weakref.ref[FakeRegion]] = []

    def prepare_each(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> Iterator[FakeRegion]:
        for region in super().prepare_each(image, queries):
            self.prepared.append(weakref.ref(region))
            yield region

    @property
    def left(self) -> int:
        """How many of them somebody holds."""
        return sum(each() is not None for each in self.prepared)


def fails(boxes: Sequence[Corners]) -> None:
    raise RuntimeError("a fault of the model")


def needs_memory(boxes: Sequence[Corners]) -> None:
    if boxes[0][0] == 8:  # of the request's regions, not of the one by which the executor tries whether it has memory
        raise DeviceMemoryError("no memory.")


def refuses(boxes: Sequence[Corners]) -> None:
    raise QueryError("'box' has no such thing on it.", "box")


def takes_long(boxes: Sequence[Corners]) -> None:
    time.sleep(0.5)


def _statuses_of_images(answer: Response) -> list[int]:
    return [each["error"]["status"] for each in answer.json().get("images", [])]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("run_hook", "status"), [(fails, 500), (needs_memory, 503), (refuses, 422), (takes_long, 504)])
def test_a_request_that_failed_holds_nothing(
    run_hook: Callable[[Sequence[Corners]], None], status: int, images: int, make_api: ApiFactory, uncollected: None
) -> None:
    predictor = Watched()
    api = make_api(predictor)
    predictor.prepared.clear()
    predictor.run_hook = run_hook
    image: dict[str, Any] = {"image": {"base64": in_base64(image_bytes())}, **one_region()}
    headers = {"x-request-timeout": "0.2"} if run_hook is takes_long else {}
    document = image if images == 1 else {"images": [image] * images}
    answer = api.client.post("/v1/describe", json=document, headers=headers)
    assert status in (answer.status_code, *_statuses_of_images(answer)), answer.text
    assert predictor.prepared
    end = time.monotonic() + WAIT_S
    while predictor.left:
        assert time.monotonic() < end
        time.sleep(0.01)
