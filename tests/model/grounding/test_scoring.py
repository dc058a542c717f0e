"""How candidates fit phrases, on boxes whose places are known."""

import numpy as np
import pytest

from dynrefer.model.grounding.scoring import Seen, ground, placement
from dynrefer.model.grounding.sentence import read_sentence

# left dog, right dog, a cup between them that lies lower, a small bird above the right dog
BOXES = np.array([[10, 40, 30, 60], [70, 40, 90, 60], [45, 70, 55, 80], [76, 10, 84, 18]], np.float32)
SIZE = (100, 100)


def seen() -> Seen:
    names = {
        "dog": np.array([0.9, 0.9, 0.0, 0.1], np.float32),
        "dogs": np.array([0.9, 0.9, 0.0, 0.1], np.float32),
        "cup": np.array([0.0, 0.0, 0.8, 0.0], np.float32),
        "bird": np.array([0.0, 0.0, 0.0, 0.8], np.float32),
    }
    attributes = {"red": np.array([0.1, 0.9, 0.5, 0.1], np.float32)}
    return Seen(BOXES, np.full(4, 0.9, np.float32), names, attributes, SIZE)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    {
        "the red dog": 1,
        "the dog left of the cup": 0,
        "the dog to the right of the cup": 1,
        "the dog below the bird": 1,
        "the leftmost dog": 0,
        "the rightmost dog": 1,
        "the small thing above the dog": 3,
        "the object between the dogs": 2,
        "the object between the leftmost dog and the rightmost dog": 2,
        "the second dog from the left": 1,
        "the first dog from the right": 1,
        "the second largest object": 1,
        "the object in the middle": 2,
        "the object at the top": 3,
        "the dog that is red": 1,
        "the dog far from the bird": 0,
        "the object smaller than the cup": 3,
        "the largest object": 0,  # of equally large ones the first
    }.items(),
)
def test_what_tells_two_objects_apart(sentence: str, expected: int) -> None:
    fits = ground(read_sentence(sentence), seen())
    assert int(fits[:, 0].argmax()) == expected
    assert ((fits >= 0) & (fits <= 1)).all()


def test_a_neighbour_that_is_not_there_says_nothing() -> None:
    alone, beside = (ground(read_sentence(text), seen())[:, 0] for text in ("the dog", "the dog beside the fox"))
    np.testing.assert_array_equal(alone, beside)


def test_no_candidates_and_no_phrases() -> None:
    nothing = Seen(np.empty((0, 4), np.float32), np.empty(0, np.float32), {}, {}, SIZE)
    assert ground(read_sentence("the red dog left of the leftmost cup"), nothing).shape == (0, 2)
    assert ground((), seen()).shape == (4, 0)


def test_placements_are_opposites() -> None:
    left, right = placement("left of", BOXES, SIZE), placement("right of", BOXES, SIZE)
    np.testing.assert_allclose(left, right.T, atol=1e-6)
    np.testing.assert_allclose(placement("above", BOXES, SIZE), placement("below", BOXES, SIZE).T, atol=1e-6)
    assert placement("left of", BOXES, SIZE)[0, 1] > 0.1 and placement("left of", BOXES, SIZE)[1, 0] == 0


def test_boxes_of_one_object_have_one_rank() -> None:
    twice = np.concatenate([BOXES[:1] + 1, BOXES])  # the left dog has two boxes
    names = {"dog": np.array([0.6, 0.9, 0.9, 0.0, 0.0], np.float32)}
    fits = ground(read_sentence("the second dog from the left"), Seen(twice, np.ones(5, np.float32), names, {}, SIZE))
    assert int(fits[:, 0].argmax()) == 2


def test_a_long_chain_of_relations() -> None:
    fits = ground(read_sentence("the dog left of the cup " + "right of the dog left of the cup " * 40), seen())
    assert np.isfinite(fits).all()
