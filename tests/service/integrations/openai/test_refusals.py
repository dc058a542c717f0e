"""Chat completions that are refused: by which parameter, and in which words."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.fakes import CARD, FakePredictor
from tests.service.conftest import HEIGHT, WIDTH, ApiFactory, image_bytes
from tests.service.integrations.openai.chats import (
    PATH,
    answered,
    chat,
    data_uri,
    image_part,
    refused,
    shown_by,
    text_part,
    user,
)


def test_an_alpha_channel_that_hides_everything_is_refused(client: TestClient) -> None:
    hidden = shown_by(np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    _, message = refused(client.post(PATH, json=chat("", hidden)))
    assert "empty" in message


def test_a_limit_of_tokens_holds_or_is_refused(make_api: ApiFactory) -> None:
    predictor = FakePredictor(card=replace(CARD, max_caption_tokens=20))
    client = make_api(predictor, integrations="openai").client
    for name in ("max_tokens", "max_completion_tokens"):
        answered(client, text="[8, 8, 40, 40] [0, 0, 9, 9]", **{name: 40})
        param, message = refused(client.post(PATH, json=chat("[8, 8, 40, 40] [0, 0, 9, 9]", **{name: 39})))
        assert param == name and "40 are the least" in message and "max_words" in message


def test_errors_of_a_stream_are_ordinary_answers(client: TestClient) -> None:
    for request in (chat("[900, 900, 950, 950]", stream=True), chat("Tell me a joke", stream=True)):
        refused(client.post(PATH, json=request))


REFUSED: Mapping[str, tuple[Any, str]] = {
    "temperature": (1.5, "from 0 to 1"),
    "top_p": ("high", "from 0 to 1"),
    "n": (True, "at least 1"),
    "max_tokens": (0, "at least 1"),
    "stream": ("yes", "true or false"),
    "stream_options": ({"include_usage": True}, "beside"),
    "frequency_penalty": (0.5, "is 0 here"),
    "presence_penalty": (False, "is 0 here"),
    "logit_bias": ({"50256": -100}, "controls"),
    "logprobs": (True, "regions"),
    "top_logprobs": (3, "cannot be honoured"),
    "stop": ("\n", "max_words"),
    "response_format": ({"type": "json_schema", "json_schema": {"name": "a"}}, "'regions'"),
    "modalities": (["text", "audio"], "no sound"),
    "audio": ({"voice": "alloy"}, "no sound"),
    "tools": ([{"type": "function"}], "calls no tools"),
    "tool_choice": ("required", "calls no tools"),
    "functions": ([{"name": "a"}], "calls no tools"),
    "function_call": ({"name": "a"}, "calls no tools"),
    "web_search_options": ({}, "calls no tools"),
    "moderation": ({"model": "a"}, "nothing is moderated"),
    "reasoning_effort": ("high", "does not reason"),
    "verbosity": ("low", "max_words"),
    "store": (True, "nothing is kept"),
    "service_tier": ("flex", "one tier"),
    "ignore_words": ("yes", "true or false"),
    "num_captions": (99, "at most"),
    "regions": ([{"box": [0, 0, 9, 9]}], "not in both"),
    "coordinates": ("metres", "one of"),
    "colour": ("red", "Unknown parameter 'colour'. Did you mean 'tool_choice'?"),
    "images": ([], "Unknown parameter 'images'."),
    "temprature": (0, "Did you mean 'temperature'?"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_asks_for_another_answer_is_refused_by_name(client: TestClient, name: str) -> None:
    value, words = REFUSED[name]
    param, message = refused(client.post(PATH, json=chat(**{name: value})))
    assert param == name
    assert words.partition(" Did")[0] in message


def test_several_errors_are_told_at_once(client: TestClient) -> None:
    param, message = refused(client.post(PATH, json=chat(temperature=2, store=True)))
    assert param == "temperature"
    assert message.startswith("The request has 2 errors. temperature: ") and "store: 'store' cannot" in message
    flat = client.post(PATH, json=chat("", regions=[{"box": [0, 0, 0, 0]}] * 9))
    assert "regions[4].box: " in refused(flat)[1] and "The others are not listed." in refused(flat)[1]
    many = client.post(PATH, json=chat(**{f"unknown{number}": 1 for number in range(1_000)}))
    assert "unknown4: " in refused(many)[1]


def test_n_and_its_other_name(client: TestClient) -> None:
    assert refused(client.post(PATH, json=chat(n=2, num_captions=2)))[0] == "n"
    assert "single region" in refused(client.post(PATH, json=chat("[0, 0, 9, 9] [1, 1, 9, 9]", n=2)))[1]
    assert refused(client.post(PATH, json=chat(n=99)))[0] == "n"


MESSAGES: Mapping[str, tuple[Any, str, str]] = {
    "none": (None, "messages", "user message"),
    "empty": ([], "messages", "user message"),
    "not a message": (["hello"], "messages[0]", "An object with"),
    "no image": ([{"role": "user", "content": "Describe this."}], "messages[0].content", "does not chat"),
    "an earlier turn": (
        [user(image_part()), {"role": "assistant", "content": "a dog"}],
        "messages[1].role",
        "does not chat",
    ),
    "two turns": ([user(image_part()), user(text_part("And?"))], "messages[1]", "one user message alone"),
    "two images": ([user(image_part(), image_part())], "messages[0].content[1].image_url.url", "this is the second"),
    "an unknown role": ([{"role": "critic", "content": "no"}], "messages[0].role", "'user', 'system' or"),
    "an image of the system": (
        [{"role": "system", "content": [image_part()]}],
        "messages[0].content[0].image_url.url",
        "part of the user's message",
    ),
    "sound": (
        [user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})],
        "messages[0].content[0].type",
        "'text' or 'image_url'",
    ),
    "no content": ([{"role": "user"}], "messages[0].content", "a list of parts"),
    "a number": ([user({"type": "text", "text": 3})], "messages[0].content[0].text", "A text is expected"),
    "an image as a text": (
        [user({"type": "image_url", "image_url": data_uri()})],
        "messages[0].content[0].image_url",
        "An object is expected",
    ),
    "an unknown detail": ([user(image_part(detail="best"))], "messages[0].content[0].image_url.detail", "one of auto"),
    "an unknown member": ([user({**text_part(""), "lang": "de"})], "messages[0].content[0].lang", "Unknown field"),
    "a member of an image": ([user(image_part(size=3))], "messages[0].content[0].image_url.size", "Unknown field"),
    "tool calls": ([{"role": "user", "content": "", "tool_calls": []}], "messages[0].tool_calls", "Unknown field"),
    "a path": ([user(image_part("dog.png"))], "messages[0].content[0].image_url.url", "a data: URI"),
    "an address": ([user(image_part("https://a.example/a"))], "messages[0].content[0].image_url.url", "fetches no"),
    "bad Base64": (
        [user(image_part("data:image/png;base64,????"))],
        "messages[0].content[0].image_url.url",
        "not standard Base64",
    ),
    "no Base64": (
        [user(image_part("data:image/png,abc"))],
        "messages[0].content[0].image_url.url",
        "without ';base64'",
    ),
    "an empty image": ([user(image_part("data:;base64,"))], "messages[0].content[0].image_url.url", "empty"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_that_hold_anything_else_are_refused(client: TestClient, name: str) -> None:
    messages, param, words = MESSAGES[name]
    found = refused(client.post(PATH, json={"model": "fake", "messages": messages}))
    assert found[0] == param
    assert words.lower() in found[1].lower()


def test_what_is_wrong_with_an_image_is_a_bad_request(client: TestClient) -> None:
    for image, words in ((b"no image at all", "not"), (image_bytes()[:60], "damaged")):
        param, message = refused(client.post(PATH, json=chat(image=data_uri(image))))
        assert param in (None, "messages") and words in message.lower()


def test_a_box_of_the_text_is_named_by_its_place(client: TestClient) -> None:
    param, message = refused(client.post(PATH, json=chat("[0, 0, 9, 9] and [900, 900, 950, 950]")))
    assert param == "messages[0].content[1].text"
    assert message.startswith("Box 2 of 2: ") and "outside the image" in message
    param, message = refused(client.post(PATH, json=chat("[0, 0, 9, 9]" * 65)))
    assert param == "messages[0].content[1].text" and message == "65 regions were given; at most 64 are accepted."
    param, message = refused(client.post(PATH, json=chat("Describe [1, 2, 3].")))
    assert param == "messages[0].content[1].text" and "'[1, 2, 3]' is no box" in message


def test_other_bodies_are_refused(client: TestClient) -> None:
    for headers in ({"content-type": "image/png"}, {"content-type": "application/json", "content-encoding": "gzip"}):
        assert refused(client.post(PATH, content=image_bytes(), headers=headers))[0] is None


def test_a_full_queue_asks_to_come_back(make_api: ApiFactory) -> None:
    began, go = threading.Event(), threading.Event()

    def wait(boxes: object) -> None:
        began.set()
        go.wait(10)

    predictor = FakePredictor()
    client = make_api(predictor, integrations="openai", max_regions=2, max_queue_regions=2, max_batch_regions=1).client
    predictor.run_hook = wait
    two = chat("[8, 8, 40, 40] [0, 0, 9, 9]")
    sender = threading.Thread(target=client.post, args=(PATH,), kwargs={"json": two})
    sender.start()
    assert began.wait(10)
    response = client.post(PATH, json=two)  # one of the first two still waits, so only one more has room
    go.set()
    sender.join()
    error = response.json()["error"]
    assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
