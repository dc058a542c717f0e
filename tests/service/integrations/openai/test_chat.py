"""Chat completions of the fake predictor: what is read and what is answered."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image

from dynrefer.service.integrations.openai.parameters import PARAMETERS
from tests.fakes import CARD, FakePredictor
from tests.service.conftest import HEIGHT, WIDTH, ApiFactory, image_bytes, in_base64
from tests.service.integrations.openai.chats import (
    CAPTION,
    PATH,
    Json,
    answered,
    boxes,
    chat,
    data_uri,
    refused,
    shown_by,
)


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


def test_models_are_reloaded_under_the_services_own_contract(make_api: ApiFactory) -> None:
    client = make_api(integrations="openai", api_keys="sesame", admin_keys="an administrator's").client
    path, admin = "/v1/models/reload", {"authorization": "Bearer an administrator's"}
    assert client.get(path, headers=admin).status_code == 200
    for refusal in (
        client.get(path),
        client.get(path, headers={"authorization": "Bearer sesame"}),
        client.post(path, headers=admin, json={"colour": "red"}),
        make_api(integrations="openai").client.get(path),
    ):
        assert refusal.status_code in (401, 403, 404, 422)
        assert refusal.headers["content-type"] == "application/problem+json"
    retrieved = client.get("/v1/models/fake", headers=admin)
    assert retrieved.json()["id"] == "fake"


def test_dams_clients_find_the_path_that_they_know(client: TestClient) -> None:
    request = chat("<image>\nDescribe the masked region in detail.", model="describe_anything_model")
    answer = client.post("/chat/completions", json=request).json()
    assert answer["choices"][0]["message"]["content"] == CAPTION


def test_an_image_at_an_address_is_fetched_by_the_guard(make_api: ApiFactory) -> None:
    client = make_api(integrations="openai", image_url_hosts="images.example.org").client

    class Fetcher:
        """Stands for the guarded one."""

        async def fetch(self, url: str, lease: object) -> bytes:
            assert url == "https://images.example.org/a.png"
            return image_bytes()

    client.app.state.fetcher = Fetcher()  # type: ignore[attr-defined]
    assert boxes(answered(client, text="", image="https://images.example.org/a.png")) == [[0, 0, WIDTH, HEIGHT]]


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
