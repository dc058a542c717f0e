"""Samples: stochastic nested views, control words, tokens; batches as functions of their position; bad pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynrefer.model.geometry import BoxFormat
from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.annotations import AnnotationSource
from dynrefer.workbench.data.captions import VocabularyWords
from dynrefer.workbench.data.region_table import Region, RegionTable, read_regions
from dynrefer.workbench.errors import BadSampleError
from dynrefer.workbench.training.initial_model import load_start
from dynrefer.workbench.training.samples import (
    EpochBatches,
    FixedBatches,
    Position,
    RegionSamples,
    SampleOptions,
    TrainingBatch,
    Unreadable,
    drop_words,
    read_picture,
)

OPTIONS = SampleOptions(0, view_size=32, num_views=3, num_tags=0, max_language_tokens=32, max_text_tokens=32)


@pytest.fixture(scope="module")
def samples(drawn: Path, tiny_model: Path, vocabulary: Vocabulary) -> RegionSamples:
    table, _ = read_regions(AnnotationSource(drawn / "train.json", drawn, None, BoxFormat.XYWH), vocabulary)
    return make(table, tiny_model, vocabulary)


def make(table: RegionTable, tiny_model: Path, vocabulary: Vocabulary) -> RegionSamples:
    start = load_start(str(tiny_model))
    tokenizers = (start.text_tokenizer, start.language_tokenizer)
    options = replace(OPTIONS, num_tags=len(vocabulary.tags))
    return RegionSamples(table, tokenizers, VocabularyWords(vocabulary), vocabulary.tags, options)


def whole(batch: TrainingBatch | Unreadable) -> TrainingBatch:
    assert isinstance(batch, TrainingBatch)
    return batch


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


def test_processes_share_each_epoch_without_overlap(samples: RegionSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[int, int], list[int]] = {}

    def batch(indices: list[int], epoch: int) -> None:
        seen.setdefault((epoch, len(seen) % 2), []).extend(indices)

    monkeypatch.setattr(samples, "batch", batch)
    per_epoch = len(samples) // 6
    for number in range(2 * per_epoch):
        for rank in range(2):
            EpochBatches(samples, Position(5, 3, rank, 2), per_epoch)[number]
    orders = [[i for (epoch, _), indices in seen.items() if epoch == e for i in indices] for e in (0, 1)]
    assert all(len(set(order)) == len(order) == 6 * per_epoch for order in orders)
    assert orders[0] != orders[1]


def test_validation_is_the_same_every_time(samples: RegionSamples) -> None:
    batches = [whole(FixedBatches(samples, Position(seed, 3, 0, 1))[1]) for seed in (0, 9)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert torch.equal(batches[0].control_ids, batches[1].control_ids)


def test_control_words_are_dropped_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    drawn = [drop_words(["brown dog", "dog", "grass", "dog"], rng) for _ in range(4000)]
    assert all(words.endswith("|") for words in drawn)
    assert sum(words == "|" for words in drawn) / 4000 == pytest.approx(0.5 + 0.5 * 0.5**3, abs=0.03)
    count = Counter(word for words in drawn for word in words[:-1].split(",") if word)
    assert set(count) == {"brown dog", "dog", "grass"}
    assert all(times / 4000 == pytest.approx(0.25, abs=0.03) for times in count.values())
    assert len({words for words in drawn if words.count(",") == 2}) == 6  # every order


def picture(folder: Path, *, turned: bool = False) -> Path:
    """12 x 8 pixels as stored, 8 x 12 upright if turned."""
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    path = folder / "a.jpg"
    Image.new("RGB", (12, 8), "red").save(path, exif=exif)
    return path


def region_of(path: Path, size: tuple[int, int] | None, box: tuple[float, ...] = (1.0, 1.0, 6.0, 6.0)) -> Region:
    return Region("annotation 1", str(path), size, box, "a dog", (0,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("turned", "listed", "shape"),
    [
        (False, None, (8, 12)),
        (False, (12, 8), (8, 12)),
        (True, None, (12, 8)),  # upright, as everywhere in this project
        (True, (8, 12), (12, 8)),
        (True, (12, 8), (8, 12)),  # the annotations were made on the picture as it is stored
    ],
)
def test_the_frame_of_the_annotations(
    turned: bool, listed: tuple[int, int] | None, shape: tuple[int, int], tmp_path: Path
) -> None:
    assert read_picture(region_of(picture(tmp_path, turned=turned), listed)).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "there is no picture"),
        (lambda path: path.write_bytes(b"text"), "is not a picture"),
        (lambda path: path.write_bytes(path.read_bytes()[:-80]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "is not a picture"),
    ],
    ids=["missing", "other bytes", "truncated", "empty"],
)
def test_pictures_that_cannot_be_read(spoil: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)).save(path)
    spoil(path)
    with pytest.raises(BadSampleError, match=reason):
        read_picture(region_of(path, None))


def test_a_picture_of_another_size_than_listed(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match="12 x 8 pixels, but listed as 9 x 9"):
        read_picture(region_of(picture(tmp_path), (9, 9)))


def test_a_bad_sample_is_replaced_and_named(tmp_path: Path, tiny_model: Path, vocabulary: Vocabulary) -> None:
    good = region_of(picture(tmp_path), None)
    outside = replace(good, name="annotation 2", box=(50.0, 50.0, 60.0, 60.0))
    gone = replace(good, name="annotation 3", image=str(tmp_path / "gone.jpg"))
    samples = make(RegionTable([good, outside, gone]), tiny_model, vocabulary)
    batch = whole(samples.batch([0, 1, 2], epoch=0))
    assert len(batch.images) == 3
    reasons = {bad.name: bad.reason for bad in batch.bad}
    assert set(reasons) == {"annotation 2", "annotation 3"}
    assert "covers nothing" in reasons["annotation 2"] and "no picture" in reasons["annotation 3"]
    again = whole(samples.batch([0, 1, 2], epoch=0))
    assert torch.equal(batch.images, again.images) and batch.bad == again.bad


def test_nothing_readable_ends_the_search(tmp_path: Path, tiny_model: Path, vocabulary: Vocabulary) -> None:
    gone = region_of(tmp_path / "gone.jpg", None)
    found = make(RegionTable([gone]), tiny_model, vocabulary).batch([0], epoch=0)
    assert isinstance(found, Unreadable) and found.bad[0].name == "annotation 1"
