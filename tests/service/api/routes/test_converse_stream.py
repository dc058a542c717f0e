"""POST /v1/converse as server-sent events, over the fake converser."""

import threading
from typing import Any

import pytest

from dynrefer.model import ConverseTurn
from tests.fake_converser import UNASKABLE
from tests.service.api.routes.converse_requests import events, message, post, talkative
from tests.service.conftest import (
    ApiClient,
    ApiFactory,
    field_errors,
)


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    return make_api(talkative())


@pytest.mark.parametrize("ask", ["field", "header"])
def test_a_streamed_answer_is_the_whole_one_in_parts(api: ApiClient, ask: str) -> None:
    whole = post(api, "is it a dog or a cat ?").json()
    more: dict[str, Any] = {"stream": True} if ask == "field" else {"headers": {"accept": "text/event-stream"}}
    found = events(post(api, "is it a dog or a cat ?", **more))
    *deltas, (last, done) = found
    assert len(deltas) > 2 and {name for name, _ in deltas} == {"delta"} and last == "done"
    assert "".join(data["content"] for _, data in deltas) == whole["message"]["content"]
    for each in (whole, done):
        del each["id"], each["timings_ms"]
    assert done == whole


def test_who_accepts_documents_too_gets_a_document(api: ApiClient) -> None:
    response = post(api, headers={"accept": "application/json, text/event-stream"})
    assert message(response)["content"] == "1: is this a dog ?"


def test_only_what_stays_as_it_is_is_sent(api: ApiClient) -> None:
    """The fake's last word is not stable before the end."""
    first, *_ = events(post(api, "one two three four", stream=True))
    assert first == ("delta", {"content": "1:"})


def test_what_fails_before_the_first_event_is_a_problem(api: ApiClient) -> None:
    response = post(api, UNASKABLE, stream=True)
    assert response.status_code == 422
    assert field_errors(response) == {"/messages/0/content": "This cannot be asked."}


def test_what_fails_after_it_is_the_last_event(api: ApiClient) -> None:
    def fail(turn: ConverseTurn) -> None:
        if turn.written:
            raise ValueError("a secret of the model's")

    api.predictor.converse_hook = fail
    response = post(api, stream=True)
    (first, _), (last, problem) = events(response)
    assert (first, last) == ("delta", "error")
    assert problem["status"] == 500 and problem["type"].endswith(":region-failed")
    assert problem["instance"] == "urn:request:" + response.headers["x-request-id"]
    assert "secret" not in response.text
    assert 'dynrefer_requests_total{outcome="failed",route="/v1/converse"' in api.client.get("/metrics").text


def test_a_deadline_that_passes_is_an_answer_or_the_last_event(api: ApiClient) -> None:
    gate = threading.Event()
    late = {"x-request-timeout": "0.5"}

    def hang(turn: ConverseTurn) -> None:
        if turn.written:
            gate.wait(30)

    api.predictor.converse_hook = hang
    try:
        (first, _), (last, problem) = events(post(api, stream=True, headers=late))
        assert (first, last) == ("delta", "error") and problem["status"] == 504
        assert post(api, headers=late).status_code == 504
    finally:
        gate.set()
