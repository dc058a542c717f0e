"""Questions and answers of vision-language models as text: coordinates there and back, marks of several kinds."""

import pytest

from dynrefer.model import written_answers
from dynrefer.model.conversation import CANNOT_TELL, Conversation, Message, NamedRegion, Role
from dynrefer.model.grounding.sentence import NounPhrase
from dynrefer.model.types import Corners, RegionQuery
from dynrefer.model.written_answers import MOST_BOXES, read_answer
from dynrefer.model.written_questions import written_box, written_conversation

SIZE = (200, 100)
DOG: Corners = (20.0, 20.0, 60.0, 40.0)  # [100, 200, 300, 400]
DOG_TEXT = "[100, 200, 300, 400]"


def named(text: str, *, complete: bool = True) -> tuple[str, list[tuple[str, Corners]]]:
    """The words, and what has which box."""
    found = read_answer(text, SIZE, complete=complete)
    return found.content, [(found.content[slice(*span.span)], span.box) for span in found.grounding]


def test_regions_are_written_as_coordinates_of_the_image() -> None:
    regions = (NamedRegion("a", RegionQuery(DOG)), NamedRegion("b", RegionQuery((0.0, 0.0, 200.0, 100.0))))
    messages = (
        Message(Role.USER, "Is <region:a> in <region:b>?"),
        Message(Role.ASSISTANT, "Yes."),
        Message(Role.USER, "What is <region:a>?"),
    )
    turns = written_conversation(Conversation(messages, regions), SIZE)
    assert turns[0].text.startswith(f"Is region a {DOG_TEXT} in region b [0, 0, 1000, 1000]?\n")
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert turns[1].text == "Yes."
    assert "<box>" in turns[0].text and CANNOT_TELL in turns[2].text
    plain = written_conversation(Conversation(messages, regions, ground=False), SIZE)
    assert "<box>" not in plain[0].text
    choice = written_conversation(Conversation(messages, regions, answers=("yes", "no")), SIZE)
    assert "yes; no" in choice[2].text and "<box>" not in choice[2].text


@pytest.mark.parametrize(
    "text",
    [
        f"It is <ref>the dog</ref><box>{DOG_TEXT}</box> there.",
        "It is <ref> the  dog </ref> <box>(100,200),(300,400)</box> there.",
        "It is <|object_ref_start|>the dog<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>"
        " there.<|im_end|>",
        f"It is the dog {DOG_TEXT} there.",
        f"It is the dog <box>{DOG_TEXT}</box> there.",
        f"<think>Well [1, 2, 3, 4].</think>It is <ref>the dog</ref><box>{DOG_TEXT}</box> there.",
    ],
)
def test_every_way_of_writing_a_box_is_read(text: str) -> None:
    assert named(text) == ("It is the dog there.", [("the dog", DOG)])


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "{}", "```\n{}```"])
def test_json_becomes_a_list_in_words(fence: str) -> None:
    objects = (
        '[{"bbox_2d": [100, 200, 300, 400], "label": "dog"}, {"bbox_2d": [0, 0, 500, 500], "label": "cat"}, '
        '{"bbox_2d": [9, 9], "label": "cup"}]'
    )
    content, boxes = named(fence.replace("{}", objects))
    assert content == "dog, cat and cup"
    assert boxes == [("dog", DOG), ("cat", (0.0, 0.0, 100.0, 50.0))]


def test_json_that_is_cut_off_gives_what_is_whole() -> None:
    cut = '[{"bbox_2d": [100, 200, 300, 400], "label": "dog"}, {"bbox_2d": [1'
    assert named(cut) == named(f"```json\n{cut}") == ("dog", [("dog", DOG)])


@pytest.mark.parametrize(
    "box", ["[300, 200, 100, 400]", "[1, 2, 3]", "[1500, 200, 1900, 400]", "[0, 0, 1, 1]", "none", "", "[-90, 0, 5, 5]"]
)
def test_a_malformed_box_is_left_out_and_its_words_stay(box: str) -> None:
    assert named(f"It is <ref>the dog</ref><box>{box}</box> there.") == ("It is the dog there.", [])


def test_a_box_just_outside_is_clipped() -> None:
    assert named("<ref>dog</ref><box>[-3, 500, 1004, 1000]</box>")[1] == [("dog", (0.0, 50.0, 200.0, 100.0))]


def test_several_boxes_of_the_same_words_and_the_regions_of_the_question() -> None:
    text = "<ref>Two dogs</ref><box>[100, 200, 300, 400]</box><box>[500, 0, 1000, 1000]</box>."
    regions = (NamedRegion("a", RegionQuery((20.3, 19.8, 60.2, 40.1))),)
    found = read_answer(text, SIZE, regions)
    assert found.content == "Two dogs."
    assert [(span.span, span.region) for span in found.grounding] == [((0, 8), "a"), ((0, 8), None)]


def test_brackets_and_signs_that_are_no_marks_stay() -> None:
    text = "A list [one, two], 3 < 4, `code`, and [5]."
    assert named(text) == (text, [])


def test_an_answer_has_bounded_boxes() -> None:
    text = " ".join(f"<ref>dog {i}</ref><box>[0, 0, {100 + i}, 900]</box>" for i in range(2 * MOST_BOXES))
    assert len(read_answer(text, SIZE).grounding) == MOST_BOXES


def test_each_noun_of_a_long_list_has_its_box() -> None:
    text = ", ".join(f"cup [0, 0, {100 + i}, 900]" for i in range(MOST_BOXES))
    assert [words for words, _ in named(text)[1]] == ["cup"] * MOST_BOXES


def test_an_answer_of_many_boxes_is_read_in_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    phrases = written_answers.noun_phrases

    def counted(words: str) -> tuple[NounPhrase, ...]:
        looked.append(words)
        return phrases(words)

    monkeypatch.setattr(written_answers, "noun_phrases", counted)
    text = " ".join(f"the dog [0, 0, {100 + i}, 900]." for i in range(5 * MOST_BOXES))
    found = read_answer(text, SIZE)
    assert len(found.grounding) == len(looked) == MOST_BOXES
    assert found.content == " ".join(["the dog."] * 5 * MOST_BOXES)


@pytest.mark.parametrize(
    "text", ["", " ", "<think>It is</think>", "<think>It is", "<|im_end|>", "[100, 200, 300, 400]"]
)
def test_an_answer_without_words_says_that_it_cannot_tell(text: str) -> None:
    assert named(text) == (CANNOT_TELL, [])
    assert read_answer(text, SIZE, complete=False).content == ""


@pytest.mark.parametrize(
    "text",
    [
        "It is <ref>the dog</ref><box>[100, 200, 300, 400]</box> on <ref>a mat</ref> <box>(1,2),(300,400)</box>.",
        "the dog [100, 200, 300, 400], a cat [1, 2, 300, 400] and 3 < 4 `x` [one].",
        '```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "dog"}]\n```',
        '[{"bbox_2d": [100, 200, 300, 400], "label": "dog"}, {"bbox_2d": [0, 0, 500, 500], "label": "cat"}]',
        "<think>I see [1, 2, 3, 4]</think>  Yes, <|object_ref_start|>it<|object_ref_end|><|box_start|>(1,2),(300,400)"
        "<|box_end|>  is.<|im_end|>",
        "an unfinished <ref>dog</ref><box>[100, 20",
        "an unfinished <ref>do",
        "an unfinished dog [100, 20",
    ],
)
def test_what_is_read_while_it_is_written_stays(text: str) -> None:
    whole = read_answer(text, SIZE)
    for length in range(len(text) + 1):
        part = read_answer(text[:length], SIZE, complete=False)
        assert whole.content.startswith(part.content), text[:length]
        assert all(span in whole.grounding for span in part.grounding), text[:length]
        assert not set("<>|") & set(part.content.replace("3 <", "")), text[:length]


def test_a_box_is_written_and_read_back_to_a_thousandth() -> None:
    size = (1234, 777)
    box = (100.5, 33.0, 1200.25, 700.0)
    (span,) = read_answer(f"the dog {written_box(box, size)}", size).grounding
    assert span.box == pytest.approx(box, abs=0.7)
