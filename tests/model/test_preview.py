"""What is remembered of an image: little, and enough to show it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.errors import ImageError
from dynrefer.model.preview import LONGEST, Preview
from tests.repository import DOCS

SCENE = DOCS / "scene.png"
SIZE = Image.open(SCENE).size


def test_a_file_is_read_again_when_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (60, 40), "#d55e00").save(path)
    monkeypatch.chdir(tmp_path)
    preview = Preview.of("a.png", (60, 40))
    monkeypatch.chdir("/")  # the path does not depend on where the program is
    assert preview.source == path and preview.image().getpixel((0, 0)) == (213, 94, 0)
    Image.new("RGB", (61, 40)).save(path)
    with pytest.raises(ImageError, match=r"61 x 40 pixels now, and had 60 x 40"):
        preview.image()
    path.unlink()
    with pytest.raises(OSError):
        preview.image()


def test_small_files_are_kept_as_they_are() -> None:
    data = SCENE.read_bytes()
    assert Preview.of(bytearray(data), SIZE).source == data


@pytest.mark.parametrize("kind", ["array", "image", "bytes"])
def test_of_all_else_a_small_copy_is_kept(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "PNG")
    given = {"array": pixels, "image": Image.fromarray(pixels), "bytes": stored.getvalue()}[kind]
    preview = Preview.of(given, (2000, 1500))  # type: ignore[arg-type]
    assert isinstance(preview.source, bytes) and len(preview.source) < 700_000  # noise, which JPEG cannot shrink
    assert preview.image().size == (LONGEST, 750) and preview.size == (2000, 1500)


def test_an_image_is_remembered_upright(tmp_path: Path) -> None:
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    assert Preview.of(path, (40, 60)).image().size == (40, 60)


def test_the_image_is_not_in_what_is_printed() -> None:
    assert len(repr(Preview.of(SCENE.read_bytes(), SIZE))) < 100
