"""POST /v1/converse, over the fake converser, which repeats the question behind the number of its message."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from httpx2 import Response

from dynrefer.model import Caption, ConverseTurn, RegionDescription, RegionQuery, Reply
from dynrefer.model.segmentation import SegmentationSpec
from dynrefer.service.engine import conversing
from tests.fake_converser import THINGS, UNASKABLE, FakeConverserSpec
from tests.fakes import FakePredictor
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

BOX = [8.0, 4.0, 40.0, 44.0]


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    return make_api(talkative())


def talkative(**more: Any) -> FakePredictor:
    return FakePredictor(conversing=FakeConverserSpec(), **more)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def said(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def post(
    api: ApiClient, question: str = "is this a dog ?", headers: dict[str, str] | None = None, **fields: Any
) -> Response:
    document = {"image": {"base64": in_base64(image_bytes())}, "messages": [user(question)], **fields}
    # A client library would refuse to send halves of surrogate pairs.
    body, more = json.dumps(document).encode(), headers or {}
    return api.client.post("/v1/converse", content=body, headers={"content-type": "application/json", **more})


def message(response: Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["message"]
    return found


def events(response: Response) -> list[tuple[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in response.headers
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def metric(api: ApiClient, name: str) -> float:
    lines = api.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).rsplit(" ", 1)[1])


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
