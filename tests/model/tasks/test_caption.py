"""Captions of the shipped model: decoded in slots as on a GPU, and searched for as a request asks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dynrefer.model.batch import RegionOutput, run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.evidence.evidence import of_drawing
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.networks.kernels.graphs import NoGraphs
from dynrefer.model.predictor import DynRefer
from dynrefer.model.tasks.caption import Caption, CaptionWriting, control_words
from dynrefer.model.types import RegionQuery, Task
from tests.repository import DOCS

BOXES = [(41.0, 2.0, 117.0, 82.0), (50.0, 89.0, 105.0, 138.0), (57.0, 148.0, 122.0, 229.0), (0.0, 0.0, 250.0, 200.0)]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("embedded", device="cpu", dtype="float32")


def test_a_cpu_has_no_slots(loaded: LoadedModel) -> None:
    assert loaded.slots is None


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_in_slots_the_same_captions(rows: int, loaded: LoadedModel) -> None:
    """With fewer rows than regions, and with more."""
    with_slots = replace(loaded, slots=loaded.network.language.open_slots(rows, NoGraphs()))
    regions = DynRefer(loaded).prepare(upright_pixels(DOCS / "scene.png"), [RegionQuery(box) for box in BOXES])
    inputs = [each for region in regions for each in region.inputs if Task.CAPTION in each.tasks]
    expected, found = (
        [output[Task.CAPTION] for output in run_batch(each, inputs, FeatureCache(64 << 20), None).outputs]
        for each in (loaded, with_slots)
    )
    assert len(found) == len(BOXES)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.tokens, ours.length) == (theirs.tokens, theirs.length)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        assert ours.logprob_sum == pytest.approx(theirs.logprob_sum, abs=1e-4)


def described(loaded: LoadedModel, *writing: CaptionWriting, **settings: Any) -> list[Caption]:
    """Captions of the first box, one per writing, in one batch."""
    predictor, pixels = DynRefer(loaded, **settings), upright_pixels(DOCS / "scene.png")
    queries = [RegionQuery(BOXES[0], (Task.CAPTION,), ("striped",), writing=each) for each in writing]
    regions = predictor.prepare(pixels, queries)
    continuous = predictor.continuous()
    if continuous is None:
        outputs = predictor.run(regions)
    else:
        tickets, done = continuous.admit(regions), dict[int, RegionOutput]()
        while len(done) < len(tickets):
            done |= dict(continuous.advance())
        outputs = [done[ticket] for ticket in tickets]
    captions = []
    for region, output in zip(regions, outputs, strict=True):
        caption = predictor.finish(region, output).caption
        assert caption is not None
        captions.append(caption)
    return captions


def test_several_captions_of_different_texts_best_first(loaded: LoadedModel) -> None:
    usual, several = described(loaded, CaptionWriting(), CaptionWriting(num_captions=4))
    assert usual.candidates is None and several.candidates is not None
    texts = [each.text for each in several.candidates]
    assert len(texts) == 4 == len(set(texts)) and all("snowman" in text for text in texts)
    assert [each.logprob_sum for each in several.candidates] == sorted(
        (each.logprob_sum for each in several.candidates), reverse=True
    )
    assert several.text == texts[0] == usual.text


def test_more_beams_find_no_worse_a_caption(loaded: LoadedModel) -> None:
    greedy, wide = described(loaded, CaptionWriting(num_beams=1), CaptionWriting(num_beams=6))
    assert wide.logprob_sum >= greedy.logprob_sum - 1e-4


@pytest.mark.parametrize("most", range(1, 12))
def test_no_caption_is_longer_than_asked_for_and_each_has_its_noun(most: int, loaded: LoadedModel) -> None:
    (caption,) = described(loaded, CaptionWriting(max_words=most))
    words = caption.text.split()
    assert 1 <= len(words) <= most
    assert "snowman" in words and words[-1] not in ("a", "on", "large", "red", "striped")


def test_controls_alone(loaded: LoadedModel) -> None:
    """Its scene's tag is no control word any more, the user's word is."""
    tags = np.full(len(loaded.vocabulary.tags), -9.0, dtype=np.float32)
    tags[loaded.vocabulary.tag_index["snow"]] = 9.0
    drawn = of_drawing(np.eye(len(loaded.vocabulary.categories), dtype=np.float32)[3], loaded.vocabulary.categories)
    assert control_words(loaded, tags, ("striped", "red", "striped"), drawn) == "~,striped,red,snow|"
    assert control_words(loaded, tags, ("striped", "red"), drawn, None, True) == "~,striped,red|"
    seen = replace(drawn, photograph=True, colour="brown")
    assert control_words(loaded, tags, ("striped",), seen, None, True) == "~,striped.|"
    assert control_words(loaded, tags, ("wet", "wet"), None) == "wet,snow|"
    assert control_words(loaded, tags, (), None, None, True) == "|"


def test_searches_of_a_batch_do_not_depend_on_each_other(loaded: LoadedModel) -> None:
    writing = [
        CaptionWriting(),
        CaptionWriting(num_captions=3),
        CaptionWriting(max_words=5),
        CaptionWriting(max_words=4),
        CaptionWriting(True, num_beams=4),
        CaptionWriting(),
    ]
    together = described(loaded, *writing)
    assert together == [described(loaded, each)[0] for each in writing]
    assert together[0] == together[-1] and len({each.text for each in together}) >= 4


def test_in_a_continuous_batch_the_same_captions(loaded: LoadedModel) -> None:
    writing = [CaptionWriting(), CaptionWriting(num_captions=3), CaptionWriting(max_words=4), CaptionWriting(True)]
    expected, found = described(loaded, *writing), described(loaded, *writing, batching="continuous")
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.text == theirs.text and ours.logprob_sum == pytest.approx(theirs.logprob_sum, abs=1e-4)
        assert (ours.candidates is None) == (theirs.candidates is None)
        if ours.candidates and theirs.candidates:
            assert [each.text for each in ours.candidates] == [each.text for each in theirs.candidates]
