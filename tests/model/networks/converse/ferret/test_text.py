"""A conversation written as a prompt, and answers read back to words and boxes."""

import pytest

from dynrefer.model.conversation import CANNOT_TELL, Conversation, Message, NamedRegion, Role
from dynrefer.model.networks.converse.ferret.text import (
    EndOfAnswer,
    Placeholder,
    PromptWords,
    prompt_parts,
    read_answer,
    written_box,
)
from dynrefer.model.types import RegionQuery

SIZE = (200, 100)
WORDS = PromptWords("System.", " USER: ", " ASSISTANT:", " Boxes.")
A = NamedRegion("a", RegionQuery(box=(20, 10, 100, 100)))
B = NamedRegion("b-2", RegionQuery(box=(0, 0, 200, 50)))


def parts_of(*messages: str, ground: bool = True) -> list[object]:
    roles = (Role.USER, Role.ASSISTANT)
    given = tuple(Message(roles[place % 2], content) for place, content in enumerate(messages))
    return list(prompt_parts(Conversation(given, (A, B), ground), SIZE, WORDS))


def test_a_region_is_its_name_its_box_and_its_feature() -> None:
    assert parts_of("Is <region:a> on <region:b-2>?", ground=False) == [
        *("System.", Placeholder(None), " USER: "),
        *("Is ", "region a [100, 100, 500, 999] ", Placeholder(A)),
        *(" on ", "region b-2 [0, 0, 999, 500] ", Placeholder(B), "?"),
        " ASSISTANT:",
    ]


def test_a_turn_is_written_the_same_whatever_follows() -> None:
    first = parts_of("What?")
    longer = parts_of("What?", " A dog near <region:a>. ", "Sure?")
    assert longer[: len(first)] == first
    assert longer[len(first) :] == [
        *(" A dog near ", "region a [100, 100, 500, 999] ", Placeholder(A), ".", EndOfAnswer()),
        *(" USER: ", "Sure?", " Boxes.", " ASSISTANT:"),
    ]


@pytest.mark.parametrize(
    ("box", "written"),
    [
        ((0, 0, 200, 100), "[0, 0, 999, 999]"),
        ((0.1, 0.2, 0.3, 0.3), "[0, 2, 1, 3]"),
        ((199.9, 99.99, 200, 100), "[999, 999, 999, 999]"),
    ],
)
def test_coordinates_are_thousandths_of_the_image(box: tuple[float, float, float, float], written: str) -> None:
    assert written_box(box, SIZE) == written


@pytest.mark.parametrize(
    ("text", "content", "named"),
    [
        ("A dog [100, 200, 500, 900].", "A dog.", ["A dog"]),
        ("The red cup [0, 0, 500, 500] on a mat[500,0,999,500]", "The red cup on a mat", ["The red cup", "a mat"]),
        ("It is region a [0, 0, 1, 1].", "It is region a.", ["region a"]),
        ("dogs [0, 0, 500, 500] [500, 0, 999, 500]", "dogs", ["dogs", "dogs"]),
        ("dogs [0, 0, 500, 500]  [500, 0, 999, 500] run", "dogs run", ["dogs", "dogs"]),
        ("[0, 0, 500, 500] dog", "dog", []),  # no word before it
        ("Yes.", "Yes.", []),
        ("Item [1] and [12, 13] there", "Item and there", []),  # not four numbers
        ("a dog [500, 0, 100, 10]", "a dog", []),  # inverted
        ("a dog [0, 0, 1000, 10]", "a dog", []),  # outside
        ("see [note] here", "see [note] here", []),
    ],
)
def test_answers_are_words_and_the_boxes_behind_them(text: str, content: str, named: list[str]) -> None:
    read = read_answer(text, SIZE, ("a",), ground=True, done=True)
    assert read.content == content
    assert [content[slice(*each.span)] for each in read.grounding] == named
    assert read.stable == len(content)


def test_a_box_is_in_pixels_and_names_the_region_that_it_is() -> None:
    (first, second) = read_answer(
        " region a [100, 200, 500, 900] and region c [0, 0, 999, 999]", SIZE, ("a",), ground=True, done=True
    ).grounding
    assert first.box == pytest.approx((20, 20, 100, 90))
    assert (first.region, second.region) == ("a", None)
    assert second.box == pytest.approx((0, 0, 199.8, 99.9))


def test_without_grounding_boxes_are_left_out() -> None:
    read = read_answer("a dog [100, 200, 500, 900]", SIZE, (), ground=False, done=True)
    assert (read.content, read.grounding) == ("a dog", ())


def test_who_says_nothing_cannot_tell() -> None:
    assert read_answer(" ", SIZE, (), ground=True, done=True).content == CANNOT_TELL
    assert read_answer(" ", SIZE, (), ground=True, done=False).content == ""


def test_what_is_stable_stays_whatever_is_written_behind_it() -> None:
    text = (
        " [1] The cup [0, 0, 500, 500] stands on region a [1, 2, 30, 40], a caf\u00e9 table [5, 6, 70, 80] (oak [x])."
    )
    whole = read_answer(text, SIZE, ("a",), ground=True, done=True)
    for end in range(len(text)):
        part = read_answer(text[:end], SIZE, ("a",), ground=True, done=False)
        assert whole.content[: part.stable] == part.content[: part.stable]
        assert set(part.grounding) <= set(whole.grounding)


def test_half_a_character_is_not_shown() -> None:
    assert read_answer("caf\ufffd", SIZE, (), ground=True, done=False).content == "caf"
