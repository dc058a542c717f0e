"""POST /v1/converse, over the fake converser, which repeats the question behind the number of its message."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dynrefer.model import Caption, ConverseTurn, RegionDescription, RegionQuery, Reply
from dynrefer.model.segmentation import SegmentationSpec
from dynrefer.service.engine import conversing
from tests.fake_converser import THINGS, UNASKABLE
from tests.service.api.routes.converse_requests import BOX, events, message, metric, post, said, talkative, user
from tests.service.conftest import (
    HEIGHT,
    WIDTH,
    ApiClient,
    ApiFactory,
    field_errors,
    image_bytes,
    in_base64,
    turned_image_bytes,
)


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    return make_api(talkative())


def test_a_question_is_answered_and_what_it_names_has_a_box(api: ApiClient) -> None:
    response = post(api, "is <region:a> a dog ?", regions=[{"id": "a", "box": BOX}], verify=False)
    assert message(response) == {
        "role": "assistant",
        "content": "1: is a a dog ?",
        "grounding": [
            {"span": [6, 7], "box": BOX, "probability": 0.5, "region": "a"},
            {"span": [8, 9], "box": BOX, "probability": 0.5, "region": "a"},
            {"span": [10, 13], "box": list(THINGS["dog"]), "probability": 0.5},
        ],
        "probability": 0.75,
    }
    answer = response.json()
    assert answer["id"] == response.headers["x-request-id"] and answer["model"] == "fake"
    assert answer["image"] == {"width": WIDTH, "height": HEIGHT}
    assert answer["finish_reason"] == "stop" and answer["usage"] == {"completion_tokens": 6}
    assert set(answer["timings_ms"]) == {"decode", "converse", "total"}


def test_a_conversation_has_several_turns(api: ApiClient) -> None:
    turns = [user("what is it ?"), said("a dog"), user("is it large ?")]
    assert message(post(api, messages=turns))["content"] == "3: is it large ?"


def test_ids_default_to_the_index(api: ApiClient) -> None:
    regions = [{"box": BOX}, {"box": [0, 0, 8, 8]}]
    found = message(post(api, "<region:1> or <region:0>", regions=regions))
    assert [(each["region"], each["box"]) for each in found["grounding"]] == [("1", [0, 0, 8, 8]), ("0", BOX)]


def test_of_the_answers_allowed_each_has_a_probability(api: ApiClient) -> None:
    found = message(post(api, answers=["yes", "no", "perhaps"]))
    assert found["content"] == "yes" and found["probability"] == 0.5
    assert [each["answer"] for each in found["answers"]] == ["yes", "no", "perhaps"]
    assert sum(each["probability"] for each in found["answers"]) == 1


def test_nothing_has_a_box_where_none_is_wanted(api: ApiClient) -> None:
    assert message(post(api, "a dog", ground=False))["grounding"] == []


def test_an_answer_ends_at_its_longest(api: ApiClient) -> None:
    response = post(api, "a b c d e", max_tokens=3)
    assert message(response)["content"] == "1: a b"
    assert response.json()["finish_reason"] == "length" and response.json()["usage"] == {"completion_tokens": 3}


def test_the_three_forms_mean_the_same(api: ApiClient) -> None:
    fields: dict[str, Any] = {"messages": [user("a <region:0> ?")], "regions": [{"box": BOX}], "answers": ["yes", "no"]}
    form = api.client.post(
        "/v1/converse", files={"image": ("image", image_bytes())}, data={"request": json.dumps(fields)}
    )
    raw = api.client.post(
        "/v1/converse?question=a <region:0> ?&box=8,4,40,44&answer=yes&answer=no",
        content=image_bytes(),
        headers={"content-type": "image/png"},
    )
    assert message(post(api, **fields)) == message(form) == message(raw)


def test_parameters_of_a_url(api: ApiClient) -> None:
    turns: list[ConverseTurn] = []
    api.predictor.converse_hook = turns.append
    query = "question=what is <region:a> ?&id=a&polygon=1,1,20,1,20,20&ground=false&max_tokens=2&verify=false"
    response = api.client.post(
        f"/v1/converse?{query}&stream=true", content=image_bytes(), headers={"content-type": "image/png"}
    )
    assert events(response)[-1][0] == "done"
    (asked,) = {id(turn.conversation): turn.conversation for turn in turns}.values()
    assert [each.id for each in asked.regions] == ["a"] and not asked.ground and asked.max_tokens == 2


def test_an_image_alone_may_be_asked_about_as_a_whole(api: ApiClient) -> None:
    turns: list[ConverseTurn] = []
    api.predictor.converse_hook = turns.append
    response = api.client.post(
        "/v1/converse?question=what is it ?", content=image_bytes(), headers={"content-type": "image/png"}
    )
    assert message(response)["content"] == "1: what is it ?" and turns[0].conversation.regions == ()


@pytest.mark.parametrize(
    ("prompt", "box"),
    [
        ({"polygon": [1, 1, 20, 1, 20, 20]}, [1.0, 1.0, 20.0, 20.0]),
        ({"scribble": [[3, 3], [9, 9]]}, [3.0, 3.0, 9.0, 9.0]),
        ({"mask": {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * 2, HEIGHT * (WIDTH - 2)]}}, None),
        ({"points": [{"x": 20, "y": 20}]}, [16.0, 16.0, 24.0, 24.0]),
    ],
)
def test_a_region_may_be_pointed_at_with_anything(
    make_api: ApiFactory, prompt: dict[str, Any], box: list[float] | None
) -> None:
    api = make_api(talkative(segmentation=SegmentationSpec(side=16, windows=1)))
    turns: list[ConverseTurn] = []
    api.predictor.converse_hook = turns.append
    response = post(api, "<region:it>", regions=[{"id": "it", **prompt}])
    (span,) = message(response)["grounding"]
    x1, y1, x2, y2 = span["box"]
    if box is not None:
        assert [x1, y1] == pytest.approx(box[:2], abs=2) and [x2, y2] == pytest.approx(box[2:], abs=2)
    query = turns[0].conversation.regions[0].query
    assert (query.mask is None) == ("scribble" in prompt) == query.rough and not query.highlight
    assert ("points" in response.json()["timings_ms"]) == ("points" in prompt)


def test_coordinates_are_read_as_the_request_writes_them(api: ApiClient) -> None:
    region = {"id": "a", "box": [0.25, 0.25, 0.25, 0.5]}
    found = message(post(api, "<region:a>", regions=[region], coordinates="unit", box_format="xywh"))
    assert found["grounding"][0]["box"] == [16.0, 12.0, 32.0, 36.0]


def test_boxes_are_in_the_frame_that_the_request_asks_for(api: ApiClient) -> None:
    image = {"base64": in_base64(turned_image_bytes())}
    fields: dict[str, Any] = {
        "image": image,
        "regions": [{"id": "a", "box": [0, 0, 10, 20]}],
        "question": "dog <region:a>",
    }
    upright = post(api, **fields).json()
    stored = post(api, **fields, orientation="stored").json()
    assert (upright["image"]["width"], upright["image"]["height"]) == (HEIGHT, WIDTH)
    assert (stored["image"]["width"], stored["image"]["height"]) == (WIDTH, HEIGHT)
    dog, region = (each["box"] for each in upright["message"]["grounding"])
    assert dog == list(THINGS["dog"]) and region == [0, 0, 10, 20]
    dog, region = (each["box"] for each in stored["message"]["grounding"])
    assert dog == [0.0, HEIGHT - 16.0, 16.0, float(HEIGHT)] and region == [0, 0, 10, 20]


class TestVerification:
    """The describer looks at the boxes of the answer, and says what it thinks of them."""

    @pytest.fixture
    def looked(self, monkeypatch: pytest.MonkeyPatch) -> list[RegionDescription]:
        looked: list[RegionDescription] = []

        def looks(reply: Reply) -> list[RegionQuery]:
            return [RegionQuery(box=each.box) for each in reply.grounding]

        def verdicts(reply: Reply, described: list[RegionDescription]) -> Reply:
            looked.extend(described)
            spans = tuple(replace(each, verified=place == 0) for place, each in enumerate(reply.grounding))
            return replace(reply, grounding=spans)

        monkeypatch.setattr(conversing, "queries_to_verify", looks)
        monkeypatch.setattr(conversing, "with_verdicts", verdicts)
        return looked

    def test_verdicts_are_in_the_answer(self, api: ApiClient, looked: list[RegionDescription]) -> None:
        response = post(api, "a dog or a cat")
        assert [each["verified"] for each in message(response)["grounding"]] == [True, False]
        assert [each.box for each in looked] == [THINGS["dog"], THINGS["cat"]]
        assert isinstance(looked[0].results["caption"], Caption)
        assert set(response.json()["timings_ms"]) == {"decode", "converse", "verify", "total"}

    def test_nobody_looks_where_it_is_not_wanted(self, api: ApiClient, looked: list[RegionDescription]) -> None:
        assert "verified" not in message(post(api, "a dog", verify=False))["grounding"][0]
        assert looked == []

    def test_the_text_comes_before_the_verdicts(self, api: ApiClient, looked: list[RegionDescription]) -> None:
        *_, (before, data), (last, answer) = events(post(api, "a dog", stream=True))
        assert (before, last) == ("delta", "done") and data["content"].endswith("dog")
        assert answer["message"]["grounding"][0]["verified"] is True

    def test_a_box_that_cannot_be_looked_at_fails_nothing(
        self, api: ApiClient, looked: list[RegionDescription], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outside = RegionQuery(box=(900.0, 900.0, 950.0, 950.0))
        monkeypatch.setattr(conversing, "queries_to_verify", lambda reply: [outside])
        assert "verified" not in message(post(api, "a dog"))["grounding"][0]


def test_turns_are_prepared_in_worker_processes(make_api: ApiFactory) -> None:
    spec = SegmentationSpec(side=16, windows=1)
    api = make_api(talkative(in_processes=True, segmentation=spec), worker_processes=1)
    regions = [{"id": "a", "box": BOX}, {"id": "b", "points": [{"x": 20, "y": 20}]}]
    found = message(post(api, "<region:a> <region:b>", regions=regions))["grounding"]
    assert [(each["region"], each["box"]) for each in found][0] == ("a", BOX) and found[1]["region"] == "b"
    assert set(field_errors(post(api, regions=[{"box": [900, 900, 950, 950]}]))) == {"/regions/0/box"}
    assert set(field_errors(post(api, UNASKABLE))) == {"/messages/0/content"}


def test_it_is_counted(api: ApiClient) -> None:
    before = metric(api, "dynrefer_reply_tokens_total")
    post(api, "one two three", stream=True), post(api, "one two")
    text = api.client.get("/metrics").text
    assert metric(api, "dynrefer_reply_tokens_total") - before == 4 + 3
    assert metric(api, "dynrefer_first_token_seconds_count") == 2
    assert 'dynrefer_stage_duration_seconds_count{stage="converse"} 2.0' in text
    assert 'dynrefer_requests_total{outcome="ok",route="/v1/converse",surface="api"} 2.0' in text


def test_the_image_is_decoded_once_for_each_pass_that_there_is(make_api: ApiFactory) -> None:
    api = make_api(talkative(segmentation=SegmentationSpec(side=16, windows=1)))
    pointed: dict[str, Any] = {"regions": [{"points": [{"x": 9, "y": 9}]}]}
    for passes, fields in ((1, {}), (2, pointed)):
        before = metric(api, "dynrefer_image_pixels_count")
        assert post(api, "a b c d e f", **fields).status_code == 200
        assert metric(api, "dynrefer_image_pixels_count") - before == passes
