"""Samples say what is true, and what is disturbed is disturbed as photographs are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynrefer.model.networks.converse.embedded.dialogue import read_dialogue
from dynrefer.model.networks.converse.embedded.inputs import spelt_as
from dynrefer.model.networks.converse.embedded.lexicon import CHOICE, END, GRAMS, SPECIAL, UNKNOWN
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.training.converse.asked import AskedQuestion
from dynrefer.workbench.training.converse.samples import Samples, make_sample
from dynrefer.workbench.training.converse.scene_arrays import Disturbance

pytestmark = pytest.mark.training
LISTING = AskedQuestion(
    1,
    Kind.LISTING,
    (("user", "List all objects."),),
    (),
    (),
    "An apple, a dog and a car.",
    ((3, 8, 0), (12, 15, 1), (22, 25, 2)),
)


def test_samples_write_what_the_question_answers(samples: Samples) -> None:
    lexicon, kinds = samples.lexicon, set()
    for place, sample in enumerate(samples.samples):
        batch = samples.batch([place], None)
        targets = batch.targets[0][batch.targets[0] >= 0].tolist()
        seen = batch.slots.boxes.shape[1]
        kinds.add(sample.kind)
        if sample.choice >= 0:
            (target,) = targets
            assert sample.words[target - lexicon.size - seen] == CHOICE
            continue
        assert targets[-1] == END
        for target in targets:
            if target >= lexicon.size:  # an object: of the image, or an asked region among the tokens
                key = target - lexicon.size
                assert batch.pointable[0, key]
    assert len(kinds) > 15


def test_the_same_batch_disturbed_twice_is_the_same(samples: Samples) -> None:
    first, second = (samples.batch([0, 1, 2], np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first.slots.boxes, second.slots.boxes) and torch.equal(first.tokens.words, second.tokens.words)


@pytest.mark.parametrize(
    "seen, objects, words",
    [
        ((0, 1, 2), [0, 1, 2], ["a", ",", "a", "and", "a", "."]),
        ((0, 2), [0, 2], ["a", "and", "a", "."]),
        ((1,), [1], ["a", "."]),
    ],
)
def test_a_list_names_what_is_seen(
    samples: Samples, seen: tuple[int, ...], objects: list[int], words: list[str]
) -> None:
    """Of what perception has missed there is nothing to point at."""
    sample = make_sample(LISTING, 0, samples.lexicon, seen)
    assert sample is not None
    targets = sample.targets[sample.targets != -1].tolist()
    assert [-2 - each for each in targets if each < -1] == objects
    assert [samples.lexicon.text_of(each) for each in targets if each > END] == words
    assert targets[-1] == END


def test_a_list_of_nothing_that_is_seen_is_no_sample(samples: Samples) -> None:
    assert make_sample(LISTING, 0, samples.lexicon, ()) is None


def test_objects_without_a_name_still_match_the_nouns_of_a_question(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in photographs, whose names are not the describer's."""
    nameless = np.ones(len(samples.scenes[0].image.objects) + len(samples.scenes[0].regions), bool)
    plain = samples.batch([0], None)
    monkeypatch.setattr(Disturbance, "drawn", lambda scene, rng: Disturbance(True, nameless))
    batch = samples.batch([0], None)
    assert not batch.slots.categories.any() and not batch.slots.tags.any() and not batch.slots.features.any()
    assert torch.equal(batch.slots.match, plain.slots.match) and batch.slots.match.any()
    regions, without = batch.tokens.regions, plain.tokens.regions
    assert not regions.categories.any() and torch.equal(regions.match, without.match)
    assert torch.equal(batch.targets, plain.targets)


def test_some_scenes_are_disturbed_and_none_without_a_generator(samples: Samples) -> None:
    scene = samples.scenes[0]
    drawn = [Disturbance.drawn(scene, np.random.default_rng(seed)) for seed in range(200)]
    assert 0 < sum(each.nameless.any() for each in drawn) < sum(each.blind for each in drawn) < 100
    none = Disturbance.drawn(scene, None)
    assert not none.blind and not none.nameless.any()


def test_some_words_are_read_by_their_letters_by_none_or_as_others(samples: Samples) -> None:
    """So that what is asked is understood with a word in it that nobody has taught."""
    places = [place for place, each in enumerate(samples.samples) if each.scene == 0][:40]
    plain, disturbed = samples.batch(places, None).tokens, samples.batch(places, np.random.default_rng(3)).tokens
    unheard = (disturbed.words == UNKNOWN) & (plain.words != UNKNOWN)
    assert 0.05 < unheard.sum() / plain.mask.sum() < 0.3
    same = (disturbed.grams == plain.grams).all(-1)[unheard]
    none = (disturbed.grams == 0).all(-1)[unheard]
    assert same.any() and none.any() and (~same & ~none).any()
    assert torch.equal(disturbed.words[~unheard], plain.words[~unheard])
    asked = plain.roles == 1
    assert not (unheard & ~asked).any(), "answers are written as they are"


def test_words_are_read_in_training_as_they_are_when_the_service_is_asked(samples: Samples) -> None:
    """Also those that the lexicon has not: by their letters, and by the vectors of some of them."""
    text = "How many gravity glorps and red dogs are there in <region:a>?"
    question = AskedQuestion(
        samples.scenes[0].seed, Kind.COUNT, (("user", text),), (("a", 0),), (), "There are two.", ()
    )
    own = Samples(samples.scenes, [question], samples.lexicon, samples.vectors)
    (sample,), tokens = own.samples, own.batch([0], None).tokens
    asked = read_dialogue(samples.lexicon, question.messages, ["a"], ())
    assert len(asked) < len(sample)
    spelt = [spelt_as(samples.lexicon, each, each.word) for each in asked]
    assert "gravity" in spelt and "glorps" in spelt
    for place, (each, letters) in enumerate(zip(asked, spelt, strict=True)):
        assert int(tokens.words[0, place]) == each.word
        grams = samples.lexicon.grams(letters) if letters else [0] * GRAMS
        assert tokens.grams[0, place].tolist() == grams, each.text
        assert np.array_equal(tokens.vectors[0, place].numpy(), samples.vectors.of([letters])[0]), each.text
    assert tokens.vectors[0, spelt.index("gravity")].any() and not tokens.vectors[0, spelt.index("glorps")].any()


def test_properties_regions_and_nouns_are_read_as_they_are(samples: Samples) -> None:
    places = [place for place, each in enumerate(samples.samples) if each.scene == 0][:60]
    plain, disturbed = samples.batch(places, None).tokens, samples.batch(places, np.random.default_rng(5)).tokens
    fixed = plain.properties.any(-1) | (plain.words < len(SPECIAL))
    assert fixed.any() and torch.equal(disturbed.words[fixed], plain.words[fixed])
    assert torch.equal(disturbed.vectors[fixed], plain.vectors[fixed])
