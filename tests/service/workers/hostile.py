"""Ways to decode an image that no process should survive; imported by worker processes."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from dynrefer.model import DecodedImage, ImageInfo, RegionQuery
from dynrefer.model.errors import DamagedImageError
from dynrefer.service.workers.image_task import OnHeader

SIDE = 64
LARGE = 1 << 12  # the side of an image that is long from the start


def plain(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """An image of one colour, which is the first three bytes."""
    on_header(SIDE, SIDE)
    pixels = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[:] = np.frombuffer(data[:3], dtype=np.uint8)
    return DecodedImage(pixels, ImageInfo(SIDE, SIDE))


def spin(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Takes CPU time without end, and where Python handles no signal."""
    return DecodedImage(np.empty(0, np.uint8), ImageInfo(sum(iter(int, 1)), 0))


def hang(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Takes no CPU time, without end."""
    time.sleep(3_600)
    raise AssertionError


def die(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Ends its process with the signal that the data name."""
    os.kill(os.getpid(), data[0])
    raise AssertionError


def die_once(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Ends its process the first time; data: the path of a file that remembers."""
    mark = Path(bytes(data).decode())
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(memoryview(b"abc"), on_header)


def eat(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Takes 4 GB."""
    return DecodedImage(np.ones((1 << 32) // 3, np.uint8), ImageInfo(SIDE, SIDE))


def fail(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Has a defect."""
    raise ZeroDivisionError("a secret")


def refuse(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """Finds the image damaged, and says which modules of note are loaded."""
    noted = {"torch", "transformers", "fastapi", "starlette", "pydantic", "uvicorn", "onnxruntime", "scipy"}
    raise DamagedImageError(f"loaded: {sorted(noted & set(sys.modules))}")


def wait_large(data: memoryview, on_header: OnHeader) -> DecodedImage:
    """A large image, whose decoding lasts until the file exists that the data name."""
    on_header(LARGE, LARGE)
    while not Path(bytes(data).decode()).exists():
        time.sleep(0.002)
    return plain_small()


def plain_small() -> DecodedImage:
    """Whatever."""
    return DecodedImage(np.zeros((SIDE, SIDE, 3), np.uint8), ImageInfo(SIDE, SIDE))


def one_query(info: ImageInfo) -> list[RegionQuery]:
    """A box in the middle."""
    return [RegionQuery((8.0, 8.0, 40.0, 40.0))]


def bad_queries(info: ImageInfo) -> list[RegionQuery]:
    """Good, inverted, outside, good."""
    boxes = [(8.0, 8.0, 40.0, 40.0), (9.0, 9.0, 8.0, 8.0), (900.0, 900.0, 950.0, 950.0), (0.0, 0.0, 64.0, 64.0)]
    return [RegionQuery(box) for box in boxes]


def many_queries(info: ImageInfo) -> list[RegionQuery]:
    """200 boxes."""
    return [RegionQuery((0.0, 0.0, 10.0 + place / 10, 20.0)) for place in range(200)]
