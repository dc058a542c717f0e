"""Chat completions: the request that is made, and answers in pieces of any size, whole, odd, cut off or too long."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer.model import Conversation, ConverseTurn, Finish, Message, NamedRegion, RegionQuery, Role, WholeImageSpec
from dynrefer.service.conversing import chat
from dynrefer.service.conversing.chat import ChatAnswer, chat_request, reply_of
from dynrefer.service.errors import UpstreamError

IMAGE = np.full((60, 80, 3), (10, 120, 230), np.uint8)
REGIONS = (NamedRegion("a", RegionQuery((-5.0, 0.0, 40.0, 60.0))),)
MESSAGES = (Message(Role.USER, "What is <region:a>?"), Message(Role.ASSISTANT, "A dog."), Message(Role.USER, "Where?"))


def turn(**changes: Any) -> ConverseTurn:
    conversation = Conversation(**{"messages": MESSAGES, "regions": REGIONS, **changes})
    (found,) = WholeImageSpec(40).prepare_each(IMAGE, [conversation])
    return found


def event(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    document = {"choices": [{"delta": {"content": content}, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def read(stream: bytes, piece: int = 10_000) -> ChatAnswer:
    answer = ChatAnswer()
    for start in range(0, len(stream), piece):
        answer.feed(stream[start : start + piece])
    if not answer.done:
        answer.end()
    return answer


def test_the_request_has_the_image_and_regions_as_coordinates() -> None:
    asked = turn(max_tokens=99)
    document = json.loads(chat_request(asked, asked.conversation, "some/model"))
    assert (document["model"], document["max_tokens"], document["stream"]) == ("some/model", 99, True)
    assert [each["role"] for each in document["messages"]] == ["user", "assistant", "user"]
    image, text = document["messages"][0]["content"]
    assert "What is region a [0, 0, 500, 1000]?" in text["text"]  # clipped to the image
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.format, file.size) == ("JPEG", (40, 30))
        assert np.abs(np.asarray(file).astype(int) - IMAGE[0, 0]).max() < 12
    assert isinstance(document["messages"][1]["content"], str)


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_stream_is_read_in_pieces_of_any_size(piece: int) -> None:
    stream = (
        b": a comment\r\n\r\n"
        + event("").replace(b"\n", b"\r\n")
        + event("Das ist ")
        + event("ein Bär \u00e9")
        + event(None, "length")
        + b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\ndata: [DONE]\n\nrubbish'
    )
    answer = read(stream, piece)
    assert (answer.content, answer.finish, answer.done) == ("Das ist ein Bär \u00e9", Finish.LENGTH, True)
    reply = reply_of(answer, turn(), turn().conversation)
    assert (reply.content, reply.tokens, reply.finish) == ("Das ist ein Bär \u00e9", 7, Finish.LENGTH)


def test_halves_of_characters_are_joined_or_replaced() -> None:
    asked = turn()
    answer, seen = ChatAnswer(), []
    for each in (event("Hi \ud83d"), event("\ude00 there \ud800"), event(None, "stop"), b"data: [DONE]\n\n"):
        answer.feed(each)
        seen.append(reply_of(answer, asked, asked.conversation).content)
    assert seen == ["Hi", "Hi \U0001f600 there", "Hi \U0001f600 there", "Hi \U0001f600 there \N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("tokens", [-1, 10**400, 1.5, "7", None])
def test_an_odd_number_of_tokens_is_none(tokens: Any) -> None:
    answer = read(event("A dog.", "stop", usage={"completion_tokens": tokens}))
    assert reply_of(answer, turn(), turn().conversation).tokens == 1


def test_an_answer_as_one_document_is_read_too() -> None:
    answer = ChatAnswer()
    document = {"choices": [{"message": {"content": "A dog."}, "finish_reason": "stop"}]}
    answer.feed_document(json.dumps(document).encode())
    answer.end(document=True)
    assert (answer.content, answer.done) == ("A dog.", True)


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (event("A dog"), chat.CUT_OFF),
        (event("A dog") + b"data: [DONE]\n\n", chat.CUT_OFF),
        (b"", chat.CUT_OFF),
        (b"<html>busy</html>", chat.CUT_OFF),
        (b"data: {\n\n", chat.ODD),
        (b"data: []\n\n", chat.ODD),
        (b"data: " + b"[" * 100_000 + b"\n\n", chat.ODD),
        (b'data: {"choices": [1]}\n\n', chat.ODD),
        (b'data: {"choices": [{"delta": {"content": [1]}}]}\n\n', chat.ODD),
        (b'data: {"error": {"message": "no GPU"}}\n\n', chat.FAILED),
        (event("A dog", "content_filter"), chat.WITHHELD),
        (event("a" * 20_000), chat.TOO_LONG),
        (b":" * 2_000_001, chat.TOO_LONG),
    ],
)
def test_what_is_no_whole_answer_is_said(stream: bytes, sentence: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        read(stream)
    assert caught.value.detail == sentence


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        ("yes", "Yes"),
        ("Yes.", "Yes"),
        ("**No**", "no"),
        ("It is light blue.", "light blue"),
        ("blue", "blue"),
        ("<ref>light blue</ref><box>[1, 2, 300, 400]</box>", "light blue"),
    ],
)
def test_one_of_the_allowed_answers_is_found_in_what_is_said(content: str, chosen: str) -> None:
    asked = turn(answers=("Yes", "no", "blue", "light blue")).conversation
    answer = read(event(content, "stop") + b"data: [DONE]\n\n")
    reply = reply_of(answer, turn(), asked)
    assert (reply.content, reply.answers, reply.grounding) == (chosen, (), ())


@pytest.mark.parametrize("content", ["perhaps", "yes or no", "", "nobody"])
def test_what_is_none_of_the_allowed_answers_is_an_error(content: str) -> None:
    asked = turn(answers=("yes", "no")).conversation
    with pytest.raises(UpstreamError) as caught:
        reply_of(read(event(content, "stop") + b"data: [DONE]\n\n"), turn(), asked)
    assert caught.value.detail == chat.NONE_OF_THEM


def test_boxes_are_those_of_the_upright_image_and_left_out_unless_wanted() -> None:
    answer = read(event("<ref>A dog</ref><box>[0, 0, 500, 1000]</box>.", "stop") + b"data: [DONE]\n\n")
    reply = reply_of(answer, turn(), turn().conversation)
    assert [(each.span, each.box, each.region) for each in reply.grounding] == [((0, 5), (0.0, 0.0, 40.0, 60.0), "a")]
    assert reply_of(answer, turn(), turn(ground=False).conversation).grounding == ()
