"""Chat completions of the fake predictor: what is read, what is answered, and what is refused in which words."""

import io
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from numpy.typing import NDArray
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image

from dynrefer.service.integrations.openai.parameters import PARAMETERS
from tests.fakes import CARD, FakePredictor
from tests.service.conftest import COLOUR, HEIGHT, WIDTH, ApiFactory, image_bytes, in_base64

Json = dict[str, Any]

PATH = "/v1/chat/completions"
CAPTION = "pixel " + " ".join(map(str, COLOUR))  # the fake predictor's of any region


def data_uri(image: bytes | None = None, kind: str = "png") -> str:
    """An image as clients send it."""
    return f"data:image/{kind};base64,{in_base64(image or image_bytes())}"


def image_part(url: str | None = None, **more: Any) -> Json:
    """A part of a message."""
    return {"type": "image_url", "image_url": {"url": url or data_uri(), **more}}


def text_part(text: str) -> Json:
    """A part of a message."""
    return {"type": "text", "text": text}


def user(*parts: Json) -> Json:
    """A user's message."""
    return {"role": "user", "content": list(parts)}


def chat(text: str = "Describe [8, 8, 40, 40].", image: str | None = None, **fields: Any) -> Json:
    """A request."""
    return {"model": "fake", "messages": [user(image_part(image), text_part(text))], **fields}


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    """Of a service with the integration."""
    return make_api(integrations="openai").client


def answered(client: TestClient, **request: Any) -> Json:
    """The answer of a valid request."""
    response = client.post(PATH, json=chat(**request))
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def refused(response: Response, status: int = 400) -> tuple[str | None, str]:
    """The parameter and the sentence of an error."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"].endswith((".", "?"))
    return error["param"], error["message"]


def boxes(answer: Json) -> list[list[float]]:
    """Of the answer's regions."""
    return [region["box"] for region in answer["regions"]]


def shown_by(alpha: NDArray[np.uint8], kind: str = "PNG") -> str:
    """An image with an alpha channel, as a data: URI."""
    image = Image.new("RGB", (WIDTH, HEIGHT), COLOUR)
    image.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return data_uri(buffer.getvalue(), kind.lower())


def test_one_region_is_its_caption(client: TestClient) -> None:
    response = client.post(PATH, json=chat(), headers={"x-request-id": "mine"})
    answer = response.json()
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": CAPTION, "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert (answer["id"], answer["object"]) == ("chatcmpl-mine", "chat.completion")
    assert (answer["model"], answer["system_fingerprint"]) == ("fake", "0")
    # The fake predictor's captions have a log-probability of -1 in all, and of -0.25 per token.
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 4, "total_tokens": 4}


def test_beside_it_stands_what_describe_answers(client: TestClient) -> None:
    document = {"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": [8, 8, 40, 40]}]}
    described, answer = client.post("/v1/describe", json=document).json(), answered(client)
    assert set(described) - set(answer) == set() and answer["image"] == described["image"]
    for regions in (described["regions"], answer["regions"]):
        assert regions[0].pop("timings_ms")
    assert answer["regions"] == described["regions"]


def test_several_regions_are_a_line_each(client: TestClient) -> None:
    answer = answered(client, text="Describe [8, 8, 40, 40] and [0, 0, 9.5, 9]")
    assert answer["choices"][0]["message"]["content"] == f"{CAPTION}\n{CAPTION}"
    assert boxes(answer) == [[8, 8, 40, 40], [0, 0, 9.5, 9]]
    assert answer["usage"]["completion_tokens"] == 8


def test_regions_and_all_other_fields_of_describe_may_stand_beside(client: TestClient) -> None:
    regions = [{"id": "mine", "box": [8, 8, 16, 16]}, {"points": None, "box": [0.5, 0, 8, 8]}]
    answer = answered(
        client, text="", regions=regions, box_format="xywh", controls=["street"], task=["caption"], top_k=1
    )
    assert boxes(answer) == [[8, 8, 24, 24], [0.5, 0, 8.5, 8]]
    assert [region["id"] for region in answer["regions"]] == ["mine", "1"]
    assert answer["choices"][0]["message"]["content"] == f"{CAPTION} street\n{CAPTION} street"


def test_boxes_of_a_text_are_pixels_unless_the_request_says_otherwise(client: TestClient) -> None:
    answer = answered(client, text="[0, 500, 250, 1000]", coordinates="per_mille")
    assert boxes(answer) == [[0, HEIGHT / 2, WIDTH / 4, HEIGHT]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_without_a_region_the_alpha_channel_shows_it(client: TestClient, kind: str) -> None:
    alpha = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    alpha[10:20, 8:30] = 255
    assert boxes(answered(client, text="Describe the masked region", image=shown_by(alpha, kind))) == [[8, 10, 29, 19]]


def test_without_a_region_and_with_nothing_hidden_it_is_the_whole_image(client: TestClient) -> None:
    opaque = shown_by(np.full((HEIGHT, WIDTH), 255, dtype=np.uint8))
    for image in (opaque, data_uri(image_bytes("JPEG"), "jpeg"), data_uri(image_bytes("GIF", "P"), "gif")):
        assert boxes(answered(client, text="What is in this image?", image=image)) == [[0, 0, WIDTH, HEIGHT]]


def test_an_alpha_channel_that_hides_everything_is_refused(client: TestClient) -> None:
    hidden = shown_by(np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    _, message = refused(client.post(PATH, json=chat("", hidden)))
    assert "empty" in message


def test_without_captions_the_lines_are_names(client: TestClient) -> None:
    assert answered(client, task="tags")["choices"][0]["message"]["content"] == "dog, street, leash"
    named = answered(client, task=["tags", "categories"], top_k=2)
    assert named["choices"][0]["message"]["content"] == "dog, fox"
    assert named["usage"]["completion_tokens"] == 0


def test_a_region_that_fails_alone_has_an_empty_line(client: TestClient) -> None:
    answer = answered(client, text="[900, 900, 950, 950] [8, 8, 40, 40]", on_region_error="report")
    assert answer["choices"][0]["message"]["content"] == f"\n{CAPTION}"
    assert "outside the image" in answer["regions"][0]["error"]["detail"]


def test_a_caption_that_meets_a_limit_says_so(make_api: ApiFactory) -> None:
    reasons = []
    for most, words in ((4, None), (5, None), (5, 4), (5, 5), (None, None)):
        predictor = FakePredictor(card=replace(CARD, max_caption_tokens=most))
        client = make_api(predictor, integrations="openai").client
        reasons.append(answered(client, max_words=words)["choices"][0]["finish_reason"])
    assert reasons == ["length", "stop", "length", "stop", "stop"]


def test_a_limit_of_tokens_holds_or_is_refused(make_api: ApiFactory) -> None:
    predictor = FakePredictor(card=replace(CARD, max_caption_tokens=20))
    client = make_api(predictor, integrations="openai").client
    for name in ("max_tokens", "max_completion_tokens"):
        answered(client, text="[8, 8, 40, 40] [0, 0, 9, 9]", **{name: 40})
        param, message = refused(client.post(PATH, json=chat("[8, 8, 40, 40] [0, 0, 9, 9]", **{name: 39})))
        assert param == name and "40 are the least" in message and "max_words" in message


def events(response: Response) -> list[Any]:
    """The data of a stream's events."""
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache" and response.text.isascii()
    *found, end = response.text.split("\n\n")
    assert end == "" and all(each.startswith("data: ") and "\n" not in each for each in found)
    assert found[-1] == "data: [DONE]"
    return [json.loads(each.removeprefix("data: ")) for each in found[:-1]]


def test_a_stream_has_a_piece_per_region(client: TestClient) -> None:
    request = chat("[8, 8, 40, 40] [0, 0, 9, 9]", stream=True)
    found = events(client.post(PATH, json=request))
    choices = [each["choices"][0] for each in found]
    assert [each["delta"] for each in choices] == [
        {"role": "assistant", "content": ""},
        {"content": CAPTION},
        {"content": f"\n{CAPTION}"},
        {},
    ]
    assert [each["finish_reason"] for each in choices] == [None, None, None, "stop"]
    assert {each["object"] for each in found} == {"chat.completion.chunk"} and len({each["id"] for each in found}) == 1
    assert ["regions" in each for each in found] == [False, False, False, True]
    assert boxes(found[-1]) == [[8, 8, 40, 40], [0, 0, 9, 9]]
    assert not any("usage" in each for each in found)


def test_a_stream_counts_its_tokens_where_that_is_asked(client: TestClient) -> None:
    request = chat(stream=True, stream_options={"include_usage": True})
    *chunks, last = events(client.post(PATH, json=request))
    assert all(each["usage"] is None for each in chunks)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 4


def test_errors_of_a_stream_are_ordinary_answers(client: TestClient) -> None:
    for request in (chat("[900, 900, 950, 950]", stream=True), chat("Tell me a joke", stream=True)):
        refused(client.post(PATH, json=request))


def test_words_are_ignored_where_the_request_says_so(client: TestClient) -> None:
    answer = answered(client, text="What colour is [8, 8, 40, 40]?", ignore_words=True)
    assert boxes(answer) == [[8, 8, 40, 40]]
    system = {"role": "system", "content": "You are a helpful assistant."}
    request = {**chat(), "messages": [system, *chat()["messages"]]}
    param, message = refused(client.post(PATH, json=request))
    assert param == "messages[0].content" and "'You are a helpful assistant' cannot be honoured" in message
    assert client.post(PATH, json={**request, "ignore_words": True}).status_code == 200


def test_parameters_that_change_nothing_are_accepted(client: TestClient) -> None:
    given: Json = {
        **{"temperature": 0.2, "top_p": 0.5, "n": 1, "stream": False, "frequency_penalty": 0, "presence_penalty": 0.0},
        **{"logit_bias": {}, "logprobs": False, "top_logprobs": 0, "stop": [], "response_format": {"type": "text"}},
        **{"modalities": ["text"], "tools": [], "tool_choice": "none", "functions": [], "function_call": "auto"},
        **{"reasoning_effort": "none", "verbosity": "medium", "store": False, "service_tier": "auto", "seed": 7},
        **{"user": "me", "metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y", "use_cache": True},
        **{"prompt_cache_options": {}, "prompt_cache_retention": "24h", "parallel_tool_calls": True, "prediction": {}},
        **{"max_tokens": 512, "num_beams": 1},
    }
    assert answered(client, **given)["choices"] == answered(client)["choices"]
    nothing = dict.fromkeys(PARAMETERS)
    assert answered(client, **nothing)["choices"] == answered(client)["choices"]


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
    param, message = refused(client.post(PATH, json=chat("Describe [1, 2, 3].")))
    assert param == "messages[0].content[1].text" and "'[1, 2, 3]' is no box" in message


def test_a_long_image_is_no_long_text(make_api: ApiFactory) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    client = make_api(integrations="openai", max_json_values=100).client
    assert len(buffer.getvalue()) > 1_000_000
    assert boxes(answered(client, text="", image=data_uri(buffer.getvalue()))) == [[0, 0, 800, 600]]


def test_the_model_is_the_one_that_is_loaded(client: TestClient) -> None:
    for name in ("fake", "dynrefer", "describe_anything_model"):
        assert client.post(PATH, json=chat(model=name)).json()["model"] == "fake"
    response = client.post(PATH, json=chat(model="gpt-5"))
    assert refused(response, 404) == (
        "model",
        "The model 'gpt-5' is not loaded; 'fake' is, also by the name 'dynrefer'.",
    )
    assert response.json()["error"]["code"] == "model_not_found"
    for model in (None, "", 3):
        assert refused(client.post(PATH, json=chat(model=model)))[0] == "model"


def test_models_are_retrieved_by_their_name(client: TestClient) -> None:
    assert client.get("/v1/models/fake").json() == client.get("/v1/models").json()["data"][0]
    assert refused(client.get("/v1/models/an/other"), 404)[0] == "model"
    assert client.post("/v1/models/fake").json()["error"]["code"] == "method_not_allowed"


def test_dams_clients_find_the_path_that_they_know(client: TestClient) -> None:
    request = chat("<image>\nDescribe the masked region in detail.", model="describe_anything_model")
    answer = client.post("/chat/completions", json=request).json()
    assert answer["choices"][0]["message"]["content"] == CAPTION


def test_other_bodies_are_refused(client: TestClient) -> None:
    for headers in ({"content-type": "image/png"}, {"content-type": "application/json", "content-encoding": "gzip"}):
        assert refused(client.post(PATH, content=image_bytes(), headers=headers))[0] is None


def test_an_image_at_an_address_is_fetched_by_the_guard(make_api: ApiFactory) -> None:
    client = make_api(integrations="openai", image_url_hosts="images.example.org").client

    class Fetcher:
        """Stands for the guarded one."""

        async def fetch(self, url: str, lease: object) -> bytes:
            assert url == "https://images.example.org/a.png"
            return image_bytes()

    client.app.state.fetcher = Fetcher()  # type: ignore[attr-defined]
    assert boxes(answered(client, text="", image="https://images.example.org/a.png")) == [[0, 0, WIDTH, HEIGHT]]


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


def test_names_are_in_the_language_of_the_request(client: TestClient, make_api: ApiFactory) -> None:
    response = client.post(PATH, json=chat(), headers={"accept-language": "de"})
    described = client.post(
        "/v1/describe",
        json={"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": [8, 8, 40, 40]}]},
        headers={"accept-language": "de"},
    )
    assert response.headers.get("content-language") == described.headers.get("content-language")


@pytest.mark.parametrize("document", [lambda: chat("", task="caption"), lambda: chat(n=1)])
def test_the_openapi_document_shows_it(client: TestClient, document: Callable[[], Json]) -> None:
    shown = client.get("/openapi.json").json()
    assert [error.message for error in OpenAPIV31SpecValidator(shown).iter_errors()] == []
    operation = shown["paths"][PATH]["post"]
    assert set(operation["responses"]) >= {"200", "400", "401", "404", "413", "429", "503"}
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(document()) <= set(body["properties"]) and {"regions", "coordinates"} <= set(body["properties"])
