"""POST /v1/detect, over the fake finder: three boxes, of which the last two are one object."""

import json
from typing import Any

import pytest
from httpx2 import Response

from dynrefer.model import FindQuery
from dynrefer.model.masks import RegionMask, bitmap_from_mask
from tests.fake_finder import LOOKED, MISSING, UNKNOWN, FakeFinderSpec
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

FIRST, SECOND = [0.0, 0.0, 16.0, 16.0], [20.0, 10.0, 44.0, 40.0]


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    return make_api(FakePredictor(finding=FakeFinderSpec()))


def post(api: ApiClient, **fields: Any) -> Response:
    document = {"image": {"base64": in_base64(image_bytes())}, **fields}
    return api.client.post("/v1/detect", json=document)


def found(response: Response) -> list[tuple[str, list[float]]]:
    assert response.status_code == 200, response.text
    return [(region["label"], region["box"]) for region in response.json()["regions"]]


def test_each_name_has_its_boxes_and_what_is_not_there_is_absent(api: ApiClient) -> None:
    response = post(api, names=["dog", MISSING])
    assert found(response) == [("dog", FIRST), ("dog", SECOND)]
    answer = response.json()
    assert [region["score"] for region in answer["regions"]] == [0.9, 0.8]
    assert [region["id"] for region in answer["regions"]] == ["0", "1"]
    assert answer["absent"] == [{"name": MISSING, "probability": 0.05}]
    assert answer["image"] == {"width": WIDTH, "height": HEIGHT}
    assert set(answer["timings_ms"]) == {"decode", "find", "total"}
    assert answer["id"] == response.headers["x-request-id"] and answer["model"] == "fake"


def test_the_three_forms_mean_the_same(api: ApiClient) -> None:
    as_json = found(post(api, names=["dog"], max_regions=1))
    form = api.client.post(
        "/v1/detect",
        files={"image": ("image", image_bytes())},
        data={"request": json.dumps({"names": ["dog"], "max_regions": 1})},
    )
    raw = api.client.post(
        "/v1/detect?name=dog&max_regions=1", content=image_bytes(), headers={"content-type": "image/png"}
    )
    assert as_json == found(form) == found(raw) == [("dog", FIRST)]


def test_parameters_of_a_url(api: ApiClient) -> None:
    asked: list[FindQuery] = []
    api.predictor.find_hook = asked.append
    response = api.client.post(
        "/v1/detect?name=dog&name=red%20cup&threshold=0.5&nms=0.9&masks=true&describe=tags,caption",
        content=image_bytes(),
        headers={"content-type": "image/png"},
    )
    assert len(found(response)) == 3  # nms at .9 keeps both boxes of the second object
    (query,) = asked
    assert [each.name for each in query.names] == ["dog", "red cup"]
    assert (query.threshold, query.nms, query.masks) == (0.5, 0.9, True)
    assert {"tags", "caption"} <= set(response.json()["regions"][0])


def test_overlapping_boxes_of_one_name_are_one_object(api: ApiClient) -> None:
    assert len(found(post(api, names=["dog"], nms=0.9))) == 3
    assert len(found(post(api, names=["dog"], nms=0.5))) == 2


def test_a_threshold_and_a_number_of_regions_bound_the_answer(api: ApiClient) -> None:
    assert found(post(api, names=["dog"], threshold=0.85)) == [("dog", FIRST)]
    assert found(post(api, names=["dog"], max_regions=1)) == [("dog", FIRST)]


def test_masks_are_run_lengths_inside_the_box(api: ApiClient) -> None:
    first, _ = post(api, names=["dog"], masks=True).json()["regions"]
    assert first["mask"]["size"] == [HEIGHT, WIDTH]
    mask = bitmap_from_mask(RegionMask(tuple(first["mask"]["size"]), first["mask"]["counts"]))
    assert mask[12, 12] and not mask[2, 2] and not mask[:, 16:].any() and not mask[16:].any()


def test_words_that_nobody_knows_are_named(api: ApiClient) -> None:
    answer = post(api, names=["dog", UNKNOWN]).json()
    assert answer["unknown_words"] == [{"name": UNKNOWN, "nearest": ["dog"]}]
    assert all(each["name"] != UNKNOWN for each in answer["absent"])


def test_the_describer_names_what_the_finder_cannot(api: ApiClient) -> None:
    answer = post(api, names=[LOOKED]).json()
    assert "look" in answer["timings_ms"]
    (query, *_) = api.predictor.queries
    assert query.vocabulary is not None and query.vocabulary.categories is not None
    assert [word.name for word in query.vocabulary.categories] == [LOOKED]
    assert [each["name"] for each in answer["absent"]] == [LOOKED]  # the fake describer says dog, fox or wolf


def test_with_nothing_asked_every_object_is_named_at_three_levels(api: ApiClient) -> None:
    response = post(api)
    assert [box for _, box in found(response)] == [FIRST, SECOND]
    for region in response.json()["regions"]:
        assert region["category"] == "dog" and region["parent"] == "animal" and region["phrase"]
        assert "caption" not in region and "views" not in region  # nobody asked for a description


def test_describe_adds_what_describe_answers(api: ApiClient) -> None:
    document = {"task": ["caption", "tags"], "top_k": 1}
    detected = post(api, names=["dog"], describe=document).json()["regions"]
    described = api.json(regions=[{"box": FIRST}, {"box": SECOND}], **document).json()["regions"]
    for one, other in zip(detected, described, strict=True):
        assert {name: one[name] for name in ("caption", "tags")} == {name: other[name] for name in ("caption", "tags")}
        assert one["label"] == "dog"


def test_one_pass_names_and_describes_where_that_changes_no_name(api: ApiClient) -> None:
    named = [(region["label"], region["phrase"], region["category"]) for region in post(api).json()["regions"]]
    passes = {
        "one": {"task": ["caption", "categories"]},
        "all tasks, by other views": {},
        "a threshold": {"task": ["caption", "categories"], "thresholds": {"categories": 9}},
        "few labels": {"task": ["caption", "categories"], "top_k": 1},
    }
    for what, describe in passes.items():
        api.predictor.batches.clear()
        regions = post(api, describe=describe).json()["regions"]
        assert [(each["label"], each["phrase"], each["category"]) for each in regions] == named, what
        assert sum(map(len, api.predictor.batches)) == (2 if what == "one" else 4), what
        assert "caption" in regions[0]


def test_room_for_what_may_come_is_reserved_and_given_back(make_api: ApiFactory) -> None:
    predictor = FakePredictor(finding=FakeFinderSpec())
    api = make_api(predictor, max_queue_regions=65, max_regions=8)
    waiting: list[float] = []

    def note(*_: object) -> None:
        text = api.client.get("/metrics").text
        waiting.append(
            float(next(line for line in text.splitlines() if line.startswith("dynrefer_queue_regions")).split()[1])
        )

    predictor.find_hook = note
    predictor.run_hook = note
    assert post(api, names=["dog"], max_regions=40, describe={"task": "tags"}).status_code == 200
    assert waiting[0] == 40.0 and waiting[-1] <= 40.0
    assert post(api, max_regions=64).status_code == 200
    text = api.client.get("/metrics").text
    assert "dynrefer_queue_regions 0.0" in text


def test_phrases_have_spans_and_those_without_an_object_say_so(api: ApiClient) -> None:
    answer = post(api, phrase=f"a dog beside a {MISSING}").json()
    assert {(region["label"], tuple(region["span"])) for region in answer["regions"]} == {("a dog", (0, 5))}
    assert [(each["name"], each["span"]) for each in answer["absent"]] == [(f"a {MISSING}", [13, 18])]


def test_boxes_and_masks_are_in_the_stored_frame_if_that_is_asked(api: ApiClient) -> None:
    image = {"base64": in_base64(turned_image_bytes())}
    upright = post(api, image=image, names=["dog"], max_regions=1).json()
    stored = post(api, image=image, names=["dog"], max_regions=1, orientation="stored", masks=True).json()
    assert (upright["image"]["width"], upright["image"]["height"]) == (HEIGHT, WIDTH)
    assert (stored["image"]["width"], stored["image"]["height"]) == (WIDTH, HEIGHT)
    assert upright["regions"][0]["box"] == FIRST
    assert stored["regions"][0]["box"] == [0.0, HEIGHT - 16.0, 16.0, float(HEIGHT)]
    assert stored["regions"][0]["mask"]["size"] == [HEIGHT, WIDTH]


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "names and a phrase": ({"names": ["a"], "phrase": "a"}, {"/phrase": "not both"}),
    "no name": ({"names": []}, {"/names": "empty"}),
    "a blank name": ({"names": ["  "]}, {"/names/0": "1 to"}),
    "an empty name": ({"names": [""]}, {"/names/0/name": "empty"}),
    "a long name": ({"names": ["x" * 65]}, {"/names/0": "64 characters"}),
    "a number": ({"names": [3]}, {"/names/0": "text"}),
    "twice": ({"names": ["Dog", " dog"]}, {"/names/1": "twice"}),
    "a synonym twice": ({"names": ["a", {"name": "b", "synonyms": ["A"]}]}, {"/names/1/synonyms/0": "twice"}),
    "meant and not": ({"names": [{"name": "a", "not": ["A"]}]}, {"/names/0/not/0": "not meant"}),
    "an unknown member": ({"names": [{"name": "a", "nto": []}]}, {"/names/0/nto": "Did you mean 'not'"}),
    "an unknown field": ({"nams": ["a"]}, {"/nams": "Did you mean 'names'"}),
    "a large nms": ({"nms": 1.5}, {"/nms": "at most 1"}),
    "a threshold below 0": ({"threshold": -1}, {"/threshold": "small"}),
    "no region": ({"max_regions": 0}, {"/max_regions": "small"}),
    "too many regions": ({"max_regions": 65}, {"/max_regions": "at most 64"}),
    "an empty phrase": ({"phrase": " "}, {"/phrase": "empty"}),
    "a long phrase": ({"phrase": "x" * 513}, {"/phrase": "512"}),
    "too many names": ({"names": [str(i) for i in range(101)]}, {"/names": "at most 100"}),
    "too many synonyms": (
        {"names": [{"name": "a", "synonyms": [f"a{i}" for i in range(1000)]}]},
        {"/names/0/synonyms": "At most 16"},
    ),
    "a wrong task": ({"describe": {"task": "x"}}, {"/describe/task": "Unknown task"}),
    "a box to describe": ({"describe": {"box": [0, 0, 1, 1]}}, {"/describe/box": "Unknown field"}),
    "a large top_k": ({"describe": {"top_k": 1001}}, {"/describe/top_k": "at most 1000"}),
    "a wrong vocabulary": ({"describe": {"vocabulary": {"categories": []}}}, {"/describe/vocabulary/categories": ""}),
    "a wrong language": ({"language": "!!"}, {"/language": "BCP 47"}),
}


@pytest.mark.parametrize(("fields", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_bad_input_is_refused_by_name(api: ApiClient, fields: dict[str, Any], expected: dict[str, str]) -> None:
    response = post(api, **fields)
    assert response.status_code == 422, response.text
    errors = field_errors(response)
    for pointer, part in expected.items():
        assert part in errors[pointer], errors
    assert api.predictor.searched == [1]  # the warm-up alone: nothing was searched


def test_all_flaws_are_listed_at_once(api: ApiClient) -> None:
    errors = field_errors(post(api, names=["a", "a", ""], nms=2, describe={"task": "x"}))
    assert set(errors) == {"/names/2/name", "/nms", "/describe/task"}


def test_an_unknown_parameter_of_a_url_is_refused(api: ApiClient) -> None:
    response = api.client.post("/v1/detect?nam=dog", content=image_bytes(), headers={"content-type": "image/png"})
    assert field_errors(response) == {"/nam": "Unknown parameter 'nam'. Did you mean 'name'?"}


def test_a_damaged_image_is_refused(api: ApiClient) -> None:
    response = post(api, image={"base64": in_base64(image_bytes()[:60])}, names=["dog"])
    assert response.status_code == 422 and set(field_errors(response)) == {"/image"}


def test_without_a_finder_it_says_so(make_api: ApiFactory) -> None:
    api = make_api()
    response = post(api, names=["dog"])
    assert response.status_code == 422 and "--finder" in response.json()["detail"]
    assert api.client.get("/v1/models").json()["models"][0]["capabilities"]["detection"] is False


def test_limits_are_the_settings(make_api: ApiFactory) -> None:
    api = make_api(FakePredictor(finding=FakeFinderSpec()), max_find_names=1, max_found_regions=2, max_phrase_chars=5)
    assert set(field_errors(post(api, names=["a", "b"]))) == {"/names"}
    assert set(field_errors(post(api, names=["a"], max_regions=3))) == {"/max_regions"}
    assert set(field_errors(post(api, phrase="a long one", max_regions=2))) == {"/phrase"}
    limits = api.client.get("/v1/models").json()["models"][0]["limits"]
    assert (limits["max_find_names"], limits["max_found_regions"], limits["max_phrase_chars"]) == (1, 2, 5)


def test_the_image_is_decoded_once_for_each_pass_that_there_is(api: ApiClient) -> None:
    def decoded() -> float:
        lines = api.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("dynrefer_image_pixels_count")).split()[1])

    for passes, fields in (
        (1, {"names": ["dog"]}),
        (1, {"names": [MISSING], "describe": {"task": "tags"}}),
        (2, {"names": ["dog"], "describe": {"task": "tags"}}),
        (2, {"names": [LOOKED]}),
        (3, {"describe": {"task": "tags"}}),
    ):
        before = decoded()
        assert post(api, **fields).status_code == 200
        assert decoded() - before == passes, fields


def test_found_regions_and_stages_are_counted(api: ApiClient) -> None:
    post(api, names=["dog"])
    text = api.client.get("/metrics").text
    assert "dynrefer_found_regions_sum 2.0" in text
    assert 'dynrefer_stage_duration_seconds_count{stage="find"} 1.0' in text
    assert 'dynrefer_requests_total{outcome="ok",route="/v1/detect",surface="api"} 1.0' in text
