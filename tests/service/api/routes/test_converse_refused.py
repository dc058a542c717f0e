"""What POST /v1/converse refuses, and in which words."""

from typing import Any

import pytest

from tests.service.api.routes.converse_requests import BOX, post, said, talkative, user
from tests.service.conftest import (
    ApiClient,
    ApiFactory,
    field_errors,
    image_bytes,
    in_base64,
)


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    return make_api(talkative())


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "no message": ({"messages": []}, {"/messages": "empty"}),
    "messages missing": ({"messages": None}, {"/messages": "list"}),
    "an empty message": ({"messages": [user("  ")]}, {"/messages/0/content": "empty"}),
    "a text as messages": ({"messages": "hello"}, {"/messages": "list"}),
    "a text as a message": ({"messages": ["hello"]}, {"/messages/0": "object"}),
    "a number as content": ({"messages": [{"role": "user", "content": 3}]}, {"/messages/0/content": "text"}),
    "content missing": ({"messages": [{"role": "user"}]}, {"/messages/0/content": "required"}),
    "an unknown role": ({"messages": [{"role": "system", "content": "a"}]}, {"/messages/0/role": "'user'"}),
    "the assistant first": ({"messages": [said("a"), user("b")]}, {"/messages/0/role": "user begins"}),
    "roles out of order": ({"messages": [user("a"), user("b")]}, {"/messages/1/role": "take turns"}),
    "the assistant last": ({"messages": [user("a"), said("b")]}, {"/messages/1/role": "last message"}),
    "an unknown member of a message": (
        {"messages": [{"role": "user", "content": "a", "contnt": "b"}]},
        {"/messages/0/contnt": "Did you mean 'content'"},
    ),
    "too many messages": ({"messages": [user("a"), said("b")] * 16 + [user("c")]}, {"/messages": "at most 32"}),
    "a long message": ({"messages": [user("a" * 2001)]}, {"/messages/0/content": "2000 characters"}),
    "a region that is not given": ({"messages": [user("<region:b>")]}, {"/messages/0/content": "'<region:b>'"}),
    "a region of an earlier message": (
        {"messages": [user("<region:b>"), said("a"), user("why?")]},
        {"/messages/0/content": "does not have"},
    ),
    "an id with a space": ({"regions": [{"id": "a b", "box": BOX}]}, {"/regions/0/id": "letters"}),
    "an empty id": ({"regions": [{"id": "", "box": BOX}]}, {"/regions/0/id": "empty"}),
    "two ids alike": (
        {"regions": [{"id": "a", "box": BOX}, {"id": "a", "box": BOX}]},
        {"/regions/1/id": "the id 'a'"},
    ),
    "an id that is another's index": (
        {"regions": [{"box": BOX}, {"id": "0", "box": BOX}]},
        {"/regions/1/id": "the id '0'"},
    ),
    "a number as an id": ({"regions": [{"id": 3, "box": BOX}]}, {"/regions/0/id": "text"}),
    "no prompt": ({"regions": [{"id": "a"}]}, {"/regions/0": "exactly one"}),
    "two prompts": ({"regions": [{"box": BOX, "points": [{"x": 1, "y": 1}]}]}, {"/regions/0": "exactly one"}),
    "a highlight": ({"regions": [{"box": BOX, "highlight": True}]}, {"/regions/0/highlight": "Unknown field"}),
    "a box outside": ({"regions": [{"box": [900, 900, 950, 950]}]}, {"/regions/0/box": "outside"}),
    "points without a segmenter": ({"regions": [{"points": [{"x": 1, "y": 1}]}]}, {"/regions/0/points": "segmenter"}),
    "a polygon of one point": ({"regions": [{"polygon": [1, 1]}]}, {"/regions/0/polygon": "3 points"}),
    "too many regions": ({"regions": [{"box": BOX}] * 65}, {"/regions": "at most 64"}),
    "one answer": ({"answers": ["yes"]}, {"/answers": "nothing to choose"}),
    "no answer": ({"answers": []}, {"/answers": "empty"}),
    "an empty answer": ({"answers": ["yes", " "]}, {"/answers/1": "empty"}),
    "an answer twice": ({"answers": ["yes", "Yes "]}, {"/answers/1": "twice"}),
    "an answer of a region that is not given": ({"answers": ["yes", "<region:b>"]}, {"/answers/1": "'<region:b>'"}),
    "a long answer": ({"answers": ["yes", "n" * 2001]}, {"/answers/1": "2000 characters"}),
    "a number as an answer": ({"answers": [1, 2]}, {"/answers/0": "text"}),
    "too many answers": ({"answers": [str(i) for i in range(33)]}, {"/answers": "at most 32"}),
    "no token": ({"max_tokens": 0}, {"/max_tokens": "small"}),
    "half a token": ({"max_tokens": 1.5}, {"/max_tokens": "whole number"}),
    "too many tokens": ({"max_tokens": 257}, {"/max_tokens": "at most 256"}),
    "a text as stream": ({"stream": "yes"}, {"/stream": "true or false"}),
    "an unknown field": ({"mesages": []}, {"/mesages": "Did you mean 'messages'"}),
    "normalized and others": ({"normalized": True, "coordinates": "percent"}, {"/normalized": "leave it out"}),
    "half of a surrogate pair": ({"messages": [user("<region:\ud800>")]}, {"": "UTF-8"}),
}


@pytest.mark.parametrize(("fields", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_bad_input_is_refused_by_name(api: ApiClient, fields: dict[str, Any], expected: dict[str, str]) -> None:
    before = list(api.predictor.conversed)
    response = post(api, **fields)
    assert response.status_code == 422, response.text
    errors = field_errors(response)
    for pointer, part in expected.items():
        assert part in errors[pointer], errors
    assert api.predictor.conversed == before  # nothing was computed


def test_all_flaws_are_listed_at_once(api: ApiClient) -> None:
    errors = field_errors(post(api, messages=[user("<region:b>"), user(" ")], answers=["a"], max_tokens=999))
    assert set(errors) == {"/messages/0/content", "/messages/1/role", "/messages/1/content", "/answers", "/max_tokens"}


def test_a_hint_says_what_the_numbers_of_a_box_may_have_meant(api: ApiClient) -> None:
    errors = field_errors(post(api, regions=[{"box": [0.5, 0.5, 0.5, 0.9]}]))
    assert '"coordinates": "unit"' in errors["/regions/0/box"]


def test_a_huge_message_is_refused_without_much_work(api: ApiClient) -> None:
    errors = field_errors(post(api, "<region:" * 100_000))
    assert set(errors) == {"/messages/0/content"}, errors


def test_many_unknown_regions_of_one_message_are_a_few_errors(api: ApiClient) -> None:
    response = post(api, "".join(f"<region:{place}>" for place in range(150)))
    assert response.status_code == 422 and len(response.json()["errors"]) == 20


@pytest.mark.parametrize("query", ["", "box=1,1,9,9"])
def test_a_url_without_a_question_is_refused(api: ApiClient, query: str) -> None:
    response = api.client.post(f"/v1/converse?{query}", content=image_bytes(), headers={"content-type": "image/png"})
    assert field_errors(response) == {"/question": "This field is required."}


def test_an_unknown_parameter_of_a_url_is_refused(api: ApiClient) -> None:
    response = api.client.post("/v1/converse?qestion=a", content=image_bytes(), headers={"content-type": "image/png"})
    assert field_errors(response) == {"/qestion": "Unknown parameter 'qestion'. Did you mean 'question'?"}


def test_a_damaged_image_is_refused(api: ApiClient) -> None:
    response = post(api, image={"base64": in_base64(image_bytes()[:60])}, stream=True)
    assert response.status_code == 422 and set(field_errors(response)) == {"/image"}


def test_without_a_converser_it_says_so(make_api: ApiFactory) -> None:
    api = make_api()
    response = post(api)
    assert response.status_code == 422 and "--converser" in response.json()["detail"]
    assert api.client.get("/v1/models").json()["models"][0]["capabilities"]["conversation"] is False


def test_limits_are_the_settings(make_api: ApiFactory) -> None:
    api = make_api(talkative(), max_messages=1, max_message_chars=5, max_answers=2, max_reply_tokens=3)
    assert set(field_errors(post(api, messages=[user("a"), said("b"), user("c")]))) == {"/messages"}
    assert set(field_errors(post(api, "too long"))) == {"/messages/0/content"}
    assert set(field_errors(post(api, "a", answers=["a", "b", "c"]))) == {"/answers"}
    assert set(field_errors(post(api, "a", max_tokens=4))) == {"/max_tokens"}
    assert post(api, "a b c").json()["finish_reason"] == "length"  # by default no more than is allowed
    card = api.client.get("/v1/models").json()["models"][0]
    names = ("max_messages", "max_message_chars", "max_answers", "max_reply_tokens")
    assert [card["limits"][name] for name in names] == [1, 5, 2, 3]
    assert card["capabilities"]["conversation"] is True
