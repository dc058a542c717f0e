"""POST /v1/describe: both forms, every field, every refusal."""

import base64
import io
import json
import pickle
import threading
import time
from typing import Any

import pytest
from PIL import Image

from dynrefer.model import Explain
from dynrefer.service.api.answering import describe_input
from dynrefer.service.api.schemas import DescribeFields
from tests.fakes import FakePredictor, slowly
from tests.service.conftest import (
    HEIGHT,
    WIDTH,
    ApiClient,
    ApiFactory,
    field_errors,
    image_bytes,
    in_base64,
    one_region,
)


def test_both_forms_give_the_same_answer(api: ApiClient) -> None:
    answers = [api.json().json(), api.form().json()]
    for answer in answers:
        del answer["id"], answer["timings_ms"], answer["regions"][0]["timings_ms"]
    assert answers[0] == answers[1]


def test_answer_without_task(api: ApiClient) -> None:
    answer = api.json().json()
    assert answer["model"] == "fake"
    assert answer["image"] == {"width": WIDTH, "height": HEIGHT}
    (region,) = answer["regions"]
    assert list(region) == [
        "id", "box", "clipped", "views", "view_policy",
        "caption", "tags", "attributes", "categories", "timings_ms",
    ]  # fmt: skip
    assert region["id"] == "0" and region["box"] == [8, 8, 40, 40] and region["clipped"] is False
    assert region["view_policy"] == "image_prior"
    assert region["views"][0] == {"t": 0.0, "box": [8, 8, 40, 40]}
    assert region["attributes"][0] == {
        "name": "color:brown", "type": "color", "value": "brown", "score": 0.9, "probability": 0.8,
    }  # fmt: skip
    assert set(region["caption"]) == {"text", "score", "logprob_sum", "logprob_mean"}


def test_times_of_answer_and_regions(api: ApiClient) -> None:
    response = api.json(regions=[{"box": [0, 0, 8, 8]}, {"box": [8, 8, 16, 16]}])
    answer = response.json()
    assert list(answer["timings_ms"]) == ["decode", "views", "queue", "vision", "heads", "caption", "total"]
    assert answer["timings_ms"]["views"] == 1.0  # one after the other
    assert answer["timings_ms"]["vision"] == 2.0  # side by side
    assert list(answer["regions"][0]["timings_ms"]) == ["views", "queue", "vision", "heads", "caption"]
    assert "vision;dur=2.000" in response.headers["server-timing"]


@pytest.mark.parametrize("task", ["caption", "tags", "attributes", "categories"])
def test_one_task_gives_that_task_alone(api: ApiClient, task: str) -> None:
    (region,) = api.json(task=task).json()["regions"]
    assert set(region) == {"id", "box", "clipped", "views", "view_policy", "timings_ms", task}
    assert region["view_policy"] == "task_prior"


def test_tasks_with_the_same_views_share_them(api: ApiClient) -> None:
    (region,) = api.json(task=["categories", "attributes"]).json()["regions"]
    assert [view["t"] for view in region["views"]] == [0.0, 0.1, 0.3]
    assert "views" not in region["categories"][0]


def test_tasks_with_different_views_carry_their_own(api: ApiClient) -> None:
    (region,) = api.json(task=["caption", "tags"]).json()["regions"]
    assert "views" not in region and "view_policy" not in region
    assert [view["t"] for view in region["caption"]["views"]] == [0.0, 0.4, 1.0]
    for tag in region["tags"]:
        assert [view["t"] for view in tag["views"]] == [0.0, 0.2, 0.5]
        assert tag["view_policy"] == "task_prior"


@pytest.mark.parametrize(
    ("box_format", "normalized", "box"),
    [
        ("xyxy", False, [16, 12, 48, 36]),
        ("xywh", False, [16, 12, 32, 24]),
        ("cxcywh", False, [32, 24, 32, 24]),
        ("xyxy", True, [0.25, 0.25, 0.75, 0.75]),
        ("xywh", True, [0.25, 0.25, 0.5, 0.5]),
        ("cxcywh", True, [0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_box_formats(api: ApiClient, box_format: str, normalized: bool, box: list[float]) -> None:
    answer = api.json(regions=[{"box": box}], box_format=box_format, normalized=normalized).json()
    assert answer["regions"][0]["box"] == [16, 12, 48, 36]


def test_fields_reach_the_model(api: ApiClient) -> None:
    api.json(
        regions=[{"id": "a", "box": [0, 0, 8, 8]}],
        controls=["street"],
        views=[0, 0.5, 1],
        top_k=2,
        thresholds={"tags": 0.85, "categories": None},
        view_policy="fixed",
        explain={"thumbnails": True},
    )
    (query,) = api.predictor.queries
    assert query.view_policy == "fixed" and query.explain == Explain(candidates=True, thumbnails=True, evidence=True)
    assert (query.controls, query.views, query.top_k) == (("street",), (0.0, 0.5, 1.0), 2)
    assert {task.value: score for task, score in query.thresholds.items()} == {"tags": 0.85}


def test_documented_defaults_may_be_spelled_out(api: ApiClient) -> None:
    response = api.json(
        box_format="xyxy", normalized=False, task=None, vocabulary=None, controls=None, views=None, top_k=10,
        thresholds=None, explain=False,
    )  # fmt: skip
    assert response.status_code == 200


def test_clipped_box_and_ids(api: ApiClient) -> None:
    answer = api.json(regions=[{"id": "é/1", "box": [-5, 0, 8, 8]}, {"box": [0, 0, 8, 8]}]).json()
    assert [region["id"] for region in answer["regions"]] == ["é/1", "1"]
    assert [region["clipped"] for region in answer["regions"]] == [True, False]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"regions": []}, "/regions", "At least one"),
    ({"regions": None}, "/regions", "list"),
    ({"regions": [{}]}, "/regions/0", "exactly one of"),
    ({"regions": [{"box": [1, 2, 3]}]}, "/regions/0/box", "four numbers"),
    ({"regions": [{"box": ["1", 2, 3, 4]}]}, "/regions/0/box", "four numbers"),
    ({"regions": [{"box": [True, 2, 3, 4]}]}, "/regions/0/box", "four numbers"),
    ({"regions": [{"box": [float("nan"), 2, 3, 4]}]}, "/regions/0/box", "finite"),
    ({"regions": [{"box": [0, 0, float("inf"), 4]}]}, "/regions/0/box", "finite"),
    ({"regions": [{"box": [0, 0, 10**400, 4]}]}, "/regions/0/box", "finite"),
    ({"regions": [{"box": [0, 0, 8, 8]}, {"box": [9, 9, 9, 20]}]}, "/regions/1/box", "empty"),
    ({"regions": [{"box": [20, 9, 9, 20]}]}, "/regions/0/box", "inverted"),
    ({"regions": [{"box": [100, 100, 120, 120]}]}, "/regions/0/box", "outside"),
    (
        {"regions": [{"id": "a", "box": [0, 0, 8, 8]}, {"id": "a", "box": [0, 0, 8, 8]}]},
        "/regions/1/id",
        "taken",
    ),
    ({"regions": [{"id": "1", "box": [0, 0, 8, 8]}, {"box": [0, 0, 8, 8]}]}, "/regions/1/id", "taken"),
    ({"regions": [{"id": "", "box": [0, 0, 8, 8]}]}, "/regions/0/id", "empty"),
    ({"regions": [{"id": 7, "box": [0, 0, 8, 8]}]}, "/regions/0/id", "text"),
    ({"regions": [{"id": "x" * 129, "box": [0, 0, 8, 8]}]}, "/regions/0/id", "128"),
    ({"regions": [{"box": [0, 0, 8, 8]}] * 65}, "/regions", "at most 64"),
    ({"regions": [{"box": [0, 0, 8, 8], "colour": 1}]}, "/regions/0/colour", "'colour'"),
    ({"tasks": "tags"}, "/tasks", "Did you mean 'task'?"),
    ({"a/b~c": 1}, "/a~1b~0c", "Unknown field"),
    ({"box_format": "yxyx"}, "/box_format", "'xywh'"),
    ({"normalized": 1}, "/normalized", "true or false"),
    ({"task": "poem"}, "/task", "categories"),
    ({"task": []}, "/task", "At least one"),
    ({"task": ["tags", 1]}, "/task", "Unknown task"),
    ({"vocabulary": "cocoa"}, "/vocabulary", "no vocabulary 'cocoa'"),
    ({"vocabulary": 7}, "/vocabulary", "object"),
    ({"vocabulary": {}}, "/vocabulary", "at least one"),
    ({"vocabulary": {"category": ["dog"]}}, "/vocabulary/category", "Did you mean 'categories'?"),
    ({"vocabulary": {"tags": []}}, "/vocabulary/tags", "no word"),
    ({"vocabulary": {"tags": ["dog", " "]}}, "/vocabulary/tags/1", "empty"),
    ({"vocabulary": {"tags": ["dog", "Dog"]}}, "/vocabulary/tags/1", "twice"),
    ({"vocabulary": {"tags": ["x" * 65]}}, "/vocabulary/tags/0", "at most 64"),
    ({"vocabulary": {"tags": ["a\nb"]}}, "/vocabulary/tags/0", "control"),
    ({"vocabulary": {"tags": [{"name": "mug", "synonyms": ["cup", 1]}]}}, "/vocabulary/tags/0/synonyms/1", "text"),
    ({"vocabulary": {"attributes": ["red"]}}, "/vocabulary/attributes/0", "type:value"),
    ({"vocabulary": {"categories": list(map(str, range(2001)))}}, "/vocabulary/categories", "at most 2000"),
    ({"explain": 1}, "/explain", "true, false or an object"),
    ({"explain": None}, "/explain", "true, false or an object"),
    ({"explain": {"views": True}}, "/explain/views", "Unknown field 'views'"),
    ({"explain": {"evidenc": True}}, "/explain/evidenc", "Did you mean 'evidence'?"),
    ({"explain": {"thumbnails": "yes"}}, "/explain/thumbnails", "true or false"),
    (
        {"explain": {"thumbnails": True}, "regions": [{"box": [0, 0, 8, 8]}] * 17},
        "/explain/thumbnails",
        "at most 16 regions",
    ),
    ({"view_policy": "fixed"}, "/view_policy", "needs 'views'"),
    ({"view_policy": "task_prior", "views": [0, 0.5, 1]}, "/view_policy", "leave one of the two out"),
    ({"view_policy": "image_prior", "views": [0, 0.5, 1]}, "/view_policy", "leave one of the two out"),
    ({"view_policy": "best"}, "/view_policy", "'image_prior'"),
    ({"image": {"url": "https://example.org/a.png"}}, "/image/url", "does not support 'url'"),
    ({"image": {"url": None, "base64": ""}}, "/image/url", "does not support 'url'"),
    ({"image": {"base64": "@@@"}}, "/image/base64", "Base64"),
    ({"image": {"base64": "data:image/png,AAAA"}}, "/image/base64", "without ';base64'"),
    ({"image": {"base64": "AAA"}}, "/image/base64", "lacks '=' at its end"),
    ({"image": {"base64": "é"}}, "/image/base64", "character 1"),
    ({"image": {"base64": ""}}, "/image/base64", "empty"),
    ({"image": {}}, "/image/base64", "required"),
    ({"image": "AAAA"}, "/image", "object"),
    ({"controls": "street"}, "/controls", "list"),
    ({"controls": [""]}, "/controls/0", "empty"),
    ({"controls": ["  "]}, "/controls/0", "spaces"),
    ({"controls": ["x" * 65]}, "/controls/0", "64"),
    ({"controls": ["x"] * 17}, "/controls", "16"),
    ({"num_captions": 0}, "/num_captions", "too small"),
    ({"num_captions": 6}, "/num_captions", "at most 5"),
    ({"num_captions": None}, "/num_captions", "whole number"),
    ({"num_beams": 9}, "/num_beams", "at most 8"),
    ({"num_beams": 2, "num_captions": 3}, "/num_beams", "3 captions need at least so many beams"),
    ({"max_words": 0}, "/max_words", "too small"),
    ({"max_words": 1001}, "/max_words", "too large"),
    ({"max_words": 2.5}, "/max_words", "whole number"),
    ({"controls_only": 1}, "/controls_only", "true or false"),
    ({"views": [0.5, 0, 1]}, "/views", "three views"),
    ({"views": [0, 1]}, "/views", "three views"),
    ({"views": [0, 0.5, 1.5]}, "/views", "0 to 1"),
    ({"views": [0, 0.5, float("nan")]}, "/views", "0 to 1"),
    ({"views": "auto"}, "/views", "list"),
    ({"top_k": 0}, "/top_k", "too small"),
    ({"top_k": 1001}, "/top_k", "1000"),
    ({"top_k": "3"}, "/top_k", "whole number"),
    ({"thresholds": {"caption": 1}}, "/thresholds/caption", "Unknown field 'caption'"),
    ({"thresholds": {"tag": 1}}, "/thresholds/tag", "Did you mean 'tags'?"),
    ({"thresholds": {"tags": float("inf")}}, "/thresholds/tags", "finite"),
]


@pytest.mark.parametrize(("fields", "pointer", "part"), REFUSED)
def test_refused_fields(api: ApiClient, fields: dict[str, Any], pointer: str, part: str) -> None:
    response = api.json(**fields)
    assert response.status_code == 422
    assert part in field_errors(response)[pointer]


def test_all_field_errors_come_at_once(api: ApiClient) -> None:
    found = field_errors(api.json(task="poem", explain="why", regions=[{"box": [1]}]))
    assert set(found) == {"/task", "/explain", "/regions/0/box"}


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": \xff}', "UTF-8"),
        (b'{"id": "\\ud800"}', "UTF-8"),
        (b"[" * 20_000, "nested too deeply"),
        (b'{"a":' * 20_000, "nested too deeply"),
        (b'{"task": null, "task": null}', "'task' occurs twice"),
        (b"[" + b"1," * 200_000 + b"1]", "values"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"1" * 5_000, "not valid JSON"),
    ],
)
def test_refused_json(api: ApiClient, body: bytes, part: str) -> None:
    response = api.raw(body)
    assert response.status_code == 422
    assert part in field_errors(response)[""]


def test_too_large_number_points_at_its_field(api: ApiClient) -> None:
    image = in_base64(image_bytes())
    response = api.raw(b'{"image": {"base64": "%s"}, "regions": [{"box": [0, 0, 1e400, 5]}]}' % image.encode())
    assert set(field_errors(response)) == {"/regions/0/box"}


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("text/plain", {}),
        ("", {}),
        ("application/x-www-form-urlencoded", {}),
        ("application/json", {"content_encoding": "gzip"}),
        ("application/json", {"content_encoding": "identity, br"}),
    ],
)
def test_refused_media(api: ApiClient, content_type: str, headers: dict[str, str]) -> None:
    assert field_errors(api.raw(b"{}", content_type, **headers)) == {}
    assert api.raw(b"{}", content_type, **headers).status_code == 415


@pytest.mark.parametrize("data", [b"hello", b"<svg/>", b"II*\x00" + b"\0" * 40, b"PK\x03\x04" + b"\0" * 40])
def test_refused_images(api: ApiClient, data: bytes) -> None:
    assert api.json(image=data).status_code == 415
    response = api.raw(json.dumps({"image": {"base64": in_base64(data)}, **one_region()}).encode())
    assert response.status_code == 415


def test_truncated_image(api: ApiClient) -> None:
    response = api.form(image=image_bytes("JPEG")[:-200])
    assert response.status_code == 422
    assert field_errors(response) == {"/image": "The image is damaged or cut short."}


def test_too_many_bytes(make_api: ApiFactory) -> None:
    api = make_api(max_body_bytes=2_000)
    assert api.raw(b" " * 2_001).status_code == 413

    def pieces() -> Any:
        yield from [b" " * 500] * 5

    response = api.client.post("/v1/describe", content=pieces(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert field_errors(response) == {}


def test_too_many_pixels(make_api: ApiFactory) -> None:
    response = make_api(max_image_pixels=WIDTH * HEIGHT - 1).json()
    assert response.status_code == 413
    assert "64 x 48" in response.json()["detail"]


def form_body(*parts: tuple[str, bytes], end: bytes = b"--frame--\r\n") -> bytes:
    pieces = [
        b'--frame\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in parts
    ]
    return b"".join(pieces) + end


REQUEST = json.dumps(one_region()).encode()


@pytest.mark.parametrize(
    ("body", "pointer", "part"),
    [
        (form_body(("request", REQUEST)), "/image", "lacks the part 'image'"),
        (form_body(("image", image_bytes())), "", "lacks the part 'request'"),
        (form_body(("image", b"a"), ("image", b"b"), ("request", REQUEST)), "/image", "several"),
        (form_body(("image", b"a"), ("request", REQUEST), ("other", b"")), "", "no others"),
        (form_body(("image", image_bytes()), ("request", REQUEST), end=b""), "", "cut short"),
        (form_body(("image", image_bytes()), ("request", b"{")), "", "not valid JSON"),
        (form_body(("image", image_bytes()), ("request", b'{"image": {}}')), "/image", "part named 'image'"),
        (form_body(("image", image_bytes()), ("request", b'{"regions": []}')), "/regions", "At least one"),
        (b"nonsense", "", "not well formed"),
        (b"", "", "cut short"),
        (b"--frame\r\n" + b"X: y\r\n" * 1_000, "", "not well formed"),
        (b"--frame\r\nX: " + b"y" * 100_000, "", "not well formed"),
    ],
)
def test_refused_forms(api: ApiClient, body: bytes, pointer: str, part: str) -> None:
    response = api.raw(body, "multipart/form-data; boundary=frame")
    assert response.status_code == 422
    assert part in field_errors(response)[pointer]


@pytest.mark.parametrize("parameters", ["", "; boundary=", "; boundary=" + "x" * 1_000])
def test_refused_boundaries(api: ApiClient, parameters: str) -> None:
    assert api.raw(b"--frame--", "multipart/form-data" + parameters).status_code == 422


def test_request_part_may_be_a_file(api: ApiClient) -> None:
    files = {"image": ("a.png", image_bytes()), "request": ("r.json", REQUEST, "application/json")}
    assert api.client.post("/v1/describe", files=files).status_code == 200


def test_large_bodies_are_parsed_elsewhere(api: ApiClient) -> None:
    assert api.json(image=image_bytes("BMP") + b"\0" * 100_000).status_code == 200


def test_request_id(api: ApiClient) -> None:
    mine = api.client.post("/v1/describe", content=b"{}", headers={"x-request-id": "mine-1.2_3"})
    assert mine.headers["x-request-id"] == "mine-1.2_3"
    odd = api.client.get("/livez", headers={"x-request-id": "a b"})
    assert odd.headers["x-request-id"].startswith("req_")
    answer = api.json()
    assert answer.json()["id"] == answer.headers["x-request-id"]


def test_image_work_can_be_done_in_another_process() -> None:
    boxes = {"regions": [{"box": [0.25, 0.25, 0.5, 0.5]}], "box_format": "xywh", "normalized": True}
    fields = DescribeFields.model_validate({**boxes, "task": "tags"})
    parsed = pickle.loads(pickle.dumps(describe_input(fields, image_bytes(), max_pixels=10_000)))
    decoded = parsed.decode(memoryview(parsed.image), on_header=lambda width, height: None)
    assert decoded.pixels.shape == (HEIGHT, WIDTH, 3) and parsed.num_regions == 1
    (query,) = parsed.queries(decoded.info)
    assert query.box == (16, 12, 48, 36) and [task.value for task in query.tasks] == ["tags"]


def test_a_full_queue_is_reported_before_any_work(make_api: ApiFactory) -> None:
    gate = threading.Event()
    predictor = FakePredictor()
    api = make_api(predictor, max_regions=2, max_queue_regions=2, max_batch_regions=1)
    predictor.run_hook = lambda boxes: gate.wait(10) and None
    two = [{"box": [0, 0, 8, 8]}, {"box": [0, 0, 9, 9]}]
    statuses: list[int] = []
    sender = threading.Thread(target=lambda: statuses.append(api.json(regions=two).status_code))
    sender.start()
    while not predictor.batches:
        time.sleep(0.002)
    refused = api.json(regions=two)  # one of the first two still waits, so only one more has room
    gate.set()
    sender.join()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert statuses == [200]
    assert len(predictor.queries) == 2


def test_deadline(make_api: ApiFactory) -> None:
    predictor = FakePredictor()
    api = make_api(predictor, request_timeout_s=0.05)
    predictor.run_hook = slowly(0.3)
    response = api.json()
    assert response.status_code == 504
    assert field_errors(response) == {}


def test_deadline_of_the_client(api: ApiClient) -> None:
    api.predictor.run_hook = slowly(0.2)
    body = json.dumps({"image": {"base64": in_base64(image_bytes())}, **one_region()}).encode()
    assert api.raw(body, x_request_timeout="0.05").status_code == 504
    assert api.raw(body, x_request_timeout="soon").status_code == 422
    assert api.raw(body, x_request_timeout="-1").status_code == 422


def test_a_failed_batch_reveals_no_internals(api: ApiClient) -> None:
    def fail(boxes: object) -> None:
        raise ValueError("secret of /some/path")

    api.predictor.run_hook = fail
    response = api.json()
    assert response.status_code == 500
    assert field_errors(response) == {"/regions/0": "The model failed on this region."}
    assert "secret" not in response.text
    api.predictor.run_hook = slowly(0)
    assert api.json().status_code == 200


BAD_AND_GOOD = [
    {"id": "good", "box": [8, 8, 40, 40]},
    {"id": "outside", "box": [300, 300, 400, 400]},
    {"box": [5, 5, 1, 1]},
    {"box": [0, 0, 0, 9]},
    {"box": [0.1, 0.1, 0.5, 0.5]},
]
BAD = {
    "/regions/1/box": "outside",
    "/regions/2/box": "inverted",
    "/regions/3/box": "empty",
    "/regions/4/box": 'less than one pixel. Did you mean "coordinates": "unit"',
}


def test_all_bad_regions_come_at_once(api: ApiClient) -> None:
    response = api.json(regions=BAD_AND_GOOD)
    assert response.status_code == 422 and response.json()["detail"] == "The request has 4 errors."
    found = field_errors(response)
    assert found.keys() == BAD.keys() and all(part in found[pointer] for pointer, part in BAD.items())
    assert not api.predictor.batches
    many = field_errors(api.json(regions=[{"box": [1, 2, 3]}] * 64))
    assert len(many) == 64


def test_bad_regions_are_reported_in_their_place(api: ApiClient) -> None:
    answer = api.json(regions=BAD_AND_GOOD, on_region_error="report").json()
    good, *bad = answer["regions"]
    assert good == {**api.json(regions=BAD_AND_GOOD[:1]).json()["regions"][0], "timings_ms": good["timings_ms"]}
    assert [region["id"] for region in bad] == ["outside", "2", "3", "4"]
    for region, (pointer, part) in zip(bad, BAD.items(), strict=True):
        assert region.keys() == {"id", "error"}
        error = region["error"]
        assert error["type"] == "urn:problem-type:dynrefer:invalid-request" and error["status"] == 422
        assert error["title"] and [flaw["pointer"] for flaw in error["errors"]] == [pointer]
        assert part in error["detail"] == error["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("region", "field"),
    [
        ({"box": [1, 2, 3]}, "/box"),
        ({"box": [float("nan"), 1, 2, 3]}, "/box"),
        ({}, ""),
        ({"box": [0, 0, 8, 8], "colour": 1}, "/colour"),
        ({"box": [0, 0, 8, 8], "id": 7}, "/id"),
        ({"box": [0, 0, 8, 8], "id": "0"}, "/id"),
        ({"box": [0, 0, 8, 8], "id": "x" * 129}, "/id"),
    ],
)
def test_a_malformed_region_is_reported_too(api: ApiClient, region: dict[str, Any], field: str) -> None:
    good = {"box": [8, 8, 40, 40]}
    answer = api.json(regions=[good, region, good], on_region_error="report").json()
    assert ["error" in each for each in answer["regions"]] == [False, True, False]
    assert answer["regions"][1]["error"]["errors"][0]["pointer"] == f"/regions/1{field}"
    assert len(answer["regions"][1]["id"]) <= 128
    alone = api.json(regions=[region, {"box": [-9, 0, -1, 9]}], on_region_error="report")
    assert alone.status_code == 200 and "error" in alone.json()["regions"][1]


def test_what_no_region_is_to_blame_for_is_not_reported(api: ApiClient) -> None:
    regions = [{"box": [8, 8, 40, 40]}, {"box": [1]}]
    assert field_errors(api.json(regions=regions, on_region_error="report", views=[0, 1])).keys() == {"/views"}
    wrong = field_errors(api.json(regions=regions, on_region_error="report", task="poem"))
    assert wrong.keys() == {"/task", "/regions/1/box"}
    assert field_errors(api.json(on_region_error="ignore")).keys() == {"/on_region_error"}


@pytest.mark.parametrize(
    ("coordinates", "box"),
    [
        ("pixels", [16, 12, 48, 36]),
        ("unit", [0.25, 0.25, 0.75, 0.75]),
        ("percent", [25, 25, 75, 75]),
        ("per_mille", [250, 250, 750, 750]),
    ],
)
def test_coordinates(api: ApiClient, coordinates: str, box: list[float]) -> None:
    answer = api.json(regions=[{"box": box}], coordinates=coordinates).json()
    assert answer["regions"][0]["box"] == [16, 12, 48, 36]
    both = api.json(regions=[{"box": box}], coordinates=coordinates, normalized=True)
    assert both.status_code == 200 if coordinates == "unit" else field_errors(both).keys() == {"/normalized"}
    assert api.json(regions=[{"box": box}], coordinates=coordinates, normalized=False).status_code == 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_coordinates(api: ApiClient, orientation: int) -> None:
    stored = Image.new("RGB", (64, 48))
    stored.paste((200, 100, 50), (10, 20, 30, 44))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    fields = {"image": buffer.getvalue(), "regions": [{"box": [10, 20, 30, 44]}], "orientation": "stored"}
    answer = api.json(**fields, views=[0, 0.5, 1]).json()
    assert answer["image"] == {"width": 64, "height": 48}
    (region,) = answer["regions"]
    assert region["box"] == [10, 20, 30, 44] and region["clipped"] is False
    assert [view["box"] for view in region["views"]] == [[10, 20, 30, 44], [5, 10, 47, 46], [0, 0, 64, 48]]
    assert region["caption"]["text"] == "pixel 200 100 50"  # it is that part of the picture
    assert api.json(**fields, coordinates="unit").status_code == 422
    unit = {**fields, "regions": [{"box": [10 / 64, 20 / 48, 30 / 64, 44 / 48]}]}
    assert api.json(**unit, coordinates="unit").json()["regions"][0]["box"] == [10, 20, 30, 44]
    upright = api.json(**{**fields, "orientation": "upright", "regions": [{"box": [0, 0, 8, 8]}]}).json()
    assert upright["image"] == ({"width": 48, "height": 64} if orientation > 4 else {"width": 64, "height": 48})


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("?box=8,8,40,40", {"regions": [{"box": [8, 8, 40, 40]}]}),
        (
            "?box=8,8,40,40&box=0,0,9,9&id=a&id=b",
            {"regions": [{"id": "a", "box": [8, 8, 40, 40]}, {"id": "b", "box": [0, 0, 9, 9]}]},
        ),
        ("?box=0.25,0.25,.5,.5&normalized=true&box_format=xywh", {"regions": [{"box": [16, 12, 48, 36]}]}),
        ("?box=25,25,5e1,50&coordinates=percent&box_format=xywh", {"regions": [{"box": [16, 12, 48, 36]}]}),
        ("", {"regions": [{"box": [0, 0, 64, 48]}]}),
        (
            "?id=all&task=tags,caption&task=tags",
            {"regions": [{"id": "all", "box": [0, 0, 64, 48]}], "task": ["tags", "caption"]},
        ),
        (
            "?box=8,8,40,40&task=tags&top_k=2&thresholds.tags=0.85&views=0,0.5,1&controls=a%2Cb&controls=c",
            {"task": "tags", "top_k": 2, "thresholds": {"tags": 0.85}, "views": [0, 0.5, 1], "controls": ["a,b", "c"]},
        ),
        ("?box=8,8,40,40&orientation=stored&on_region_error=report", {"on_region_error": "report"}),
        ("?box=8,8,40,40&explain=true&view_policy=task_prior", {"explain": True, "view_policy": "task_prior"}),
        ("?box=8,8,40,40&explain.thumbnails=true", {"explain": {"thumbnails": True}}),
        (
            "?box=8,8,40,40&num_captions=2&num_beams=3&max_words=4&controls=a&controls_only=true",
            {"num_captions": 2, "num_beams": 3, "max_words": 4, "controls": ["a"], "controls_only": True},
        ),
    ],
)  # fmt: skip
def test_the_image_alone(api: ApiClient, query: str, document: dict[str, Any]) -> None:
    response = api.client.post(
        "/v1/describe" + query, content=image_bytes(), headers={"content-type": "Image/PNG; a=b"}
    )
    answers = [response.json(), api.json(**document).json()]
    for answer in answers:
        del answer["id"], answer["timings_ms"]
        for region in answer["regions"]:
            del region["timings_ms"]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("query", "pointer", "part"),
    [
        ("?boxes=1,2,3,4", "/boxes", "Unknown parameter 'boxes'. Did you mean 'box'?"),
        ("?vocabulary=cocoa", "/vocabulary", "no vocabulary 'cocoa'"),
        ("?vocabulary.categories=dog,dog", "/vocabulary/categories/1", "twice"),
        ("?vocabulary.tags=dog&vocabulary=coco", "/vocabulary", "not both"),
        ("?vocabulary.words=dog", "/vocabulary.words", "Unknown parameter"),
        ("?box=1,2,3", "/regions/0/box", "four numbers"),
        ("?box=1,2,3,x", "/regions/0/box", "four numbers"),
        ("?box=1,2,3,NaN", "/regions/0/box", "finite"),
        ("?box=50,50,9,9", "/regions/0/box", "inverted"),
        ("?box=0.1,0.1,0.5,0.5", "/regions/0/box", "normalized"),
        ("?" + "box=1,2,30,40&" * 65, "/regions", "at most 64"),
        ("?" + "id=1&" * 1_000, "", "at most"),
        ("?box=1,2,30,40&id=a&id=b", "/id", "2 ids"),
        ("?box_format=xywh", "/box_format", "needs a box"),
        ("?task=poem", "/task", "categories"),
        ("?task=", "/task", "categories"),
        ("?top_k=many", "/top_k", "whole number"),
        ("?top_k=1001", "/top_k", "1000"),
        ("?top_k=1&top_k=2", "/top_k", "2 times"),
        ("?box=1,2,30,40&normalized=yes", "/normalized", "true or false"),
        ("?views=0,1", "/views", "three views"),
        ("?explain=yes", "/explain", "true, false or an object"),
        ("?explain.views=true", "/explain.views", "Unknown parameter"),
        ("?explain.thumbnails=1", "/explain/thumbnails", "true or false"),
        ("?explain=false&explain.thumbnails=true", "/explain", "not both"),
        ("?view_policy=fixed", "/view_policy", "needs 'views'"),
        ("?thresholds.caption=1", "/thresholds.caption", "Unknown parameter"),
        ("?thresholds.tags=high", "/thresholds/tags", "number"),
        ("?task", "", "NAME=VALUE"),
        ("?task=%ff", "", "UTF-8"),
    ],
)
def test_refused_parameters(api: ApiClient, query: str, pointer: str, part: str) -> None:
    response = api.client.post("/v1/describe" + query, content=image_bytes(), headers={"content-type": "image/png"})
    assert response.status_code == 422
    assert part in field_errors(response)[pointer]


def test_refused_files(api: ApiClient) -> None:
    assert field_errors(api.raw(b"", "image/png")) == {"/image": "The body is empty; it is to be the image."}
    for data in (in_base64(image_bytes()).encode(), b"data:image/png;base64,AAAA"):
        response = api.raw(data, "image/png")
        assert response.status_code == 415 and "Base64 text" in field_errors(response)["/image"]
        response = api.form(image=data)
        assert response.status_code == 415 and "The part 'image' holds Base64 text" in field_errors(response)["/image"]
    assert api.raw(b"<svg/>", "image/svg+xml").status_code == 415
    assert api.raw(image_bytes(), "image/").status_code == 415


def test_a_form_as_mail_programs_write_it(api: ApiClient) -> None:
    good = form_body(("image", image_bytes()), ("request", b"\xef\xbb\xbf" + REQUEST), end=b"--frame-- \r\nepilogue")
    for preamble in (b"", b"\r\n", b"This is a multi-part message in MIME format.\r\n", b"--frames\r\n--frame1\n"):
        for content_type in (
            'multipart/form-data; boundary="frame"',
            "Multipart/Form-Data;charset=utf-8; Boundary=frame",
        ):
            assert api.raw(preamble + good, content_type).status_code == 200


@pytest.mark.parametrize("text", ["data:image/png;base64,@", "@\n", "\r\n@", "data:;base64,@\r\n"])
def test_base64_as_other_programs_write_it(api: ApiClient, text: str) -> None:
    image = base64.encodebytes(image_bytes() * 2).decode()
    assert api.json(image={"base64": text.replace("@", image)}).status_code == 200


def test_hostile_lists_are_refused_before_they_are_validated(api: ApiClient) -> None:
    image = {"base64": in_base64(image_bytes())}
    for item in (0, {}, {"a": 0}, []):
        assert "30000 regions were given" in field_errors(api.json(regions=[item] * 30_000))["/regions"]
    assert "objects" in field_errors(api.json(vocabulary=[{}] * 30_000))[""]
    found = field_errors(api.json(controls=[0] * 50_000))
    assert len(found) == 17 and "text" in found["/controls/0"]
    assert field_errors(api.json(controls=["a"] * 50_000)).keys() == {"/controls"}
    for name in ("views", "task"):
        assert "at most 1000" in field_errors(api.json(**{name: [0] * 50_000}))[f"/{name}"]
    members = {f"k{index}": 0 for index in range(5_000)}
    for fields in (members, {"thresholds": members}, {"image": {**image, **members}}):
        found = field_errors(api.json(**fields))
        assert len(found) == 20 and all("Unknown field" in detail for detail in found.values())
    found = field_errors(api.json(regions=[{"box": [0, 0, 8, 8], **members}] * 10))
    assert len(found) == 29 and "/regions/9/k0" in found
