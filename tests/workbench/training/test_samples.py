"""Samples: stochastic nested views, control words, tokens; batches as functions of their position; bad images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.types import Corners
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.frames import Frame
from dynrefer.workbench.data.region_table import Region, RegionTable
from dynrefer.workbench.errors import BadSampleError
from dynrefer.workbench.training.samples import (
    RegionSamples,
    UnreadableBatch,
    drop_words,
    read_image,
)
from tests.workbench.training.conftest import make_samples, whole


def test_a_batch(samples: RegionSamples, vocabulary: Vocabulary) -> None:
    batch = whole(samples.batch([0, 3, 5], epoch=0))
    assert batch.images.shape == (3, 3, 3, 32, 32) and batch.images.dtype == torch.uint8
    assert batch.boxes.shape == (3, 3, 4) and (batch.boxes[:, 0, :2] == 0).all()  # t = 0 first
    assert batch.tags.shape == (3, len(vocabulary.tags)) and batch.bad == ()
    for row, index in enumerate((0, 3, 5)):
        region = samples.regions[index]
        assert tuple(batch.tags[row].nonzero().flatten().tolist()) == region.tags
        kept = batch.labels[row][batch.labels[row] != IGNORED]
        decoded = samples._language_tokenizer.decode(kept, skip_special_tokens=True)
        assert decoded.split() == region.caption.split()
    assert batch.control_ids.shape == batch.control_mask.shape


def test_views_differ_by_epoch_and_are_the_same_again(samples: RegionSamples) -> None:
    first, again, other = (whole(samples.batch([2], epoch)) for epoch in (0, 0, 1))
    assert torch.equal(first.images, again.images) and torch.equal(first.control_ids, again.control_ids)
    assert not torch.equal(first.boxes, other.boxes)


def test_control_words_are_dropped_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    drawn = [drop_words(["brown dog", "dog", "grass", "dog"], rng) for _ in range(4000)]
    assert all(words.endswith("|") for words in drawn)
    assert sum(words == "|" for words in drawn) / 4000 == pytest.approx(0.5 + 0.5 * 0.5**3, abs=0.03)
    count = Counter(word for words in drawn for word in words[:-1].split(",") if word)
    assert set(count) == {"brown dog", "dog", "grass"}
    assert all(times / 4000 == pytest.approx(0.25, abs=0.03) for times in count.values())
    assert len({words for words in drawn if words.count(",") == 2}) == 6  # every order


def image_file(folder: Path, *, turned: bool = False) -> Path:
    """12 x 8 pixels as stored, 8 x 12 upright if turned."""
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    path = folder / "a.jpg"
    Image.new("RGB", (12, 8), "red").save(path, exif=exif)
    return path


def region_of(path: Path, size: tuple[int, int] | None, box: tuple[float, ...] = (1.0, 1.0, 6.0, 6.0)) -> Region:
    return Region("annotation 1", str(path), size, box, "a dog", (0,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("turned", "listed", "others", "frame", "stored"),
    [
        (False, None, [], Frame.AUTO, False),
        (False, (12, 8), [], Frame.STORED, False),
        (True, None, [], Frame.AUTO, False),
        (True, (8, 12), [], Frame.AUTO, False),
        (True, (12, 8), [], Frame.AUTO, True),  # the annotations were made on the image as it is stored
        (True, (12, 8), [(1, 1, 6, 11)], Frame.AUTO, False),  # another box of the image proves the contrary
        (True, (12, 8), [], Frame.UPRIGHT, False),
        (True, None, [], Frame.STORED, True),
    ],
)
def test_the_frame_of_the_annotations(
    turned: bool,
    listed: tuple[int, int] | None,
    others: list[Corners],
    frame: Frame,
    stored: bool,
    tmp_path: Path,
) -> None:
    """The image is upright, as everywhere in this project, and the box is turned with it."""
    region = region_of(image_file(tmp_path, turned=turned), listed)
    found = read_image(region, [region.box, *others], frame)
    assert found.pixels.shape == ((12, 8, 3) if turned else (8, 12, 3))
    assert found.stored is stored and found.box == ((2, 1, 7, 6) if stored else (1, 1, 6, 6))


def test_all_boxes_of_an_image_decide_its_frame(tmp_path: Path, tiny_model: Path, vocabulary: Vocabulary) -> None:
    """In batches, and the batch says which images were read as stored."""
    (tmp_path / "b").mkdir()
    one = region_of(image_file(tmp_path, turned=True), None)
    other = region_of(image_file(tmp_path / "b", turned=True), None)
    proof = replace(one, name="annotation 2", box=(9.0, 1.0, 12.0, 4.0))
    samples = make_samples(RegionTable([one, other, proof]), tiny_model, vocabulary)
    assert list(samples.regions.image_boxes(0)) == list(samples.regions.image_boxes(2)) == [one.box, proof.box]
    assert list(samples.regions.image_boxes(1)) == [other.box]
    assert whole(samples.batch([0, 1], epoch=0)).stored == (one.image,)
    assert whole(samples.batch([1], epoch=0)).stored == ()


def test_boxes_that_contradict_each_other_are_bad(
    tmp_path: Path, tiny_model: Path, vocabulary: Vocabulary
) -> None:  # fmt: skip
    one = region_of(image_file(tmp_path, turned=True), None, (9.0, 1.0, 12.0, 4.0))
    other = replace(one, name="annotation 2", box=(1.0, 9.0, 4.0, 12.0))
    found = make_samples(RegionTable([one, other]), tiny_model, vocabulary).batch([0], epoch=0)
    assert isinstance(found, UnreadableBatch) and "contradict each other" in found.bad[0].reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "there is no image"),
        (lambda path: path.write_bytes(b"text"), "is not an image"),
        (lambda path: path.write_bytes(path.read_bytes()[:-80]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "is not an image"),
    ],
    ids=["missing", "other bytes", "truncated", "empty"],
)
def test_images_that_cannot_be_read(spoil: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)).save(path)
    spoil(path)
    with pytest.raises(BadSampleError, match=reason):
        read_image(region_of(path, None), [])


def test_an_image_of_another_size_than_listed(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match="12 x 8 pixels, but listed as 9 x 9"):
        read_image(region_of(image_file(tmp_path), (9, 9)), [])


def test_a_missing_image_comes_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match="there is no image .*; its name holds a backslash"):
        read_image(region_of(tmp_path / "a\\b.png", None), [])


def test_a_bad_sample_is_replaced_and_named(tmp_path: Path, tiny_model: Path, vocabulary: Vocabulary) -> None:
    good = region_of(image_file(tmp_path), None)
    outside = replace(good, name="annotation 2", box=(50.0, 50.0, 60.0, 60.0))
    gone = replace(good, name="annotation 3", image=str(tmp_path / "gone.jpg"))
    samples = make_samples(RegionTable([good, outside, gone]), tiny_model, vocabulary)
    batch = whole(samples.batch([0, 1, 2], epoch=0))
    assert len(batch.images) == 3
    reasons = {bad.name: bad.reason for bad in batch.bad}
    assert set(reasons) == {"annotation 2", "annotation 3"}
    assert "covers nothing" in reasons["annotation 2"] and "no image" in reasons["annotation 3"]
    again = whole(samples.batch([0, 1, 2], epoch=0))
    assert torch.equal(batch.images, again.images) and batch.bad == again.bad


def test_nothing_readable_ends_the_search(tmp_path: Path, tiny_model: Path, vocabulary: Vocabulary) -> None:
    gone = region_of(tmp_path / "gone.jpg", None)
    found = make_samples(RegionTable([gone]), tiny_model, vocabulary).batch([0], epoch=0)
    assert isinstance(found, UnreadableBatch) and found.bad[0].name == "annotation 1"
