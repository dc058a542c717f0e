"""A short run of files with damaged structure; `python -m benchmarks.fuzz_images` is the long one."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import sample_images
from benchmarks.fuzz_images import decode_all
from benchmarks.image_damage import FORMATS, damaged_structures
from dynrefer.model.images import decode_image


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_structures_are_images_or_image_errors(tmp_path: Path) -> None:
    found = decode_all(3, 800, tmp_path)
    assert found["findings"] == []
    assert {"decoded", "DamagedImageError"} <= set(found["outcomes"])  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "data"), sample_images().items())
def test_a_file_taken_apart_and_put_together_is_the_same_image(name: str, data: bytes) -> None:
    split, join = FORMATS[name.split()[0]]
    parts = split(data)
    assert parts
    again = decode_image(join(data, parts), 10_000)
    assert np.array_equal(again.pixels, decode_image(data, 10_000).pixels)


def test_the_same_seed_makes_the_same_files() -> None:
    files = sample_images()
    assert list(damaged_structures(3, files, 100)) == list(damaged_structures(3, files, 100))
    assert list(damaged_structures(3, files, 100)) != list(damaged_structures(4, files, 100))
