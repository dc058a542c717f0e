"""What of a text is read: boxes, and words that ask for what happens anyway."""

import pytest

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.integrations.openai.instructions import MOST_CHARS, check_words, foreign_sentence, read_boxes
from dynrefer.service.integrations.openai.messages import Text


def boxes(text: str) -> list[tuple[float, ...]]:
    """Those of a text."""
    return [each.values for each in read_boxes([Text(text, "/at")])]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Describe [64, 256, 384, 384].", [(64, 256, 384, 384)]),
        ("[1,2,3,4][5,6,7,8]", [(1, 2, 3, 4), (5, 6, 7, 8)]),
        ("[[1, 2, 3, 4], [5, 6, 7, 8]]", [(1, 2, 3, 4), (5, 6, 7, 8)]),
        ("[ .5 , -1.25,+3.,\n4 ]", [(0.5, -1.25, 3, 4)]),
        ("region [] of [the image]", []),
    ],
)
def test_boxes_in_a_text(text: str, found: list[tuple[float, ...]]) -> None:
    assert boxes(text) == found


@pytest.mark.parametrize(
    "text", ["[1, 2, 3]", "[1, 2, 3, 4, 5]", "[1 2 3 4]", "[x1=1, y1=2, x2=3, y2=4]", "[0.1e3, 1, 2, 3]"]
)
def test_what_looks_like_a_box_but_is_none(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no box: a box is written") as refused:
        boxes(f"Describe {text}")
    assert refused.value.fields[0].pointer == "/at"


def test_texts_of_any_length_cost_little() -> None:
    for hostile in ("[" * 60_000, "[ " * 30_000, "[1," * 20_000, "1" * 60_000, "please " * 9_000, "< " * 30_000):
        assert boxes(hostile) == []
        foreign_sentence(hostile)
    with pytest.raises(InvalidRequestError, match=f"longer than {MOST_CHARS}"):
        read_boxes([Text("a" * MOST_CHARS, "/first"), Text("a", "/second")])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2, 3, 4]",
        "Describe [64, 256, 384, 384] and [0, 0, 32, 32] in detail.",
        "<image>\nDescribe the masked region in detail.",
        "Describe this image",
        "Please describe the region: [1, 2, 3, 4]!",
        "Could you please describe what is in the box [1, 2, 3, 4]?",
        "Give me a detailed description of the object in [1, 2, 3, 4].",
        "Write a caption for this picture.",
        "What is in this image?",
        "What’s in this image?",
        "What do you see here?",
        "Describe [1, 2, 3, 4]\n[5, 6, 7, 8]",
    ],
)
def test_what_asks_for_a_description(text: str) -> None:
    assert foreign_sentence(text) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Hello!", "Hello"),
        ("What colour is the car in [1, 2, 3, 4]?", "What colour is the car in [...]"),
        ("Describe this image. Answer in French.", "Answer in French"),
        ("Describe this image in one word", "Describe this image in one word"),
        ("Is there a box in the image?", "Is there a box in the image"),
        ("How many objects", "How many objects"),
        ("Do not describe this", "Do not describe this"),
        ("You are a helpful assistant.", "You are a helpful assistant"),
        ("Beschreibe dieses Bild", "Beschreibe dieses Bild"),
    ],
)
def test_what_asks_for_anything_else(text: str, sentence: str) -> None:
    assert foreign_sentence(text) == sentence
    with pytest.raises(InvalidRequestError, match="ignore_words") as refused:
        check_words([Text("Describe this.", "/first"), Text(text, "/second")])
    assert refused.value.fields[0].pointer == "/second"
