"""POST /v1/describe: both forms, every field, every refusal."""

import json
import pickle
import threading
import time
from typing import Any

import pytest

from dynrefer.service.api.routes.describe import describe_input
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
    )
    (query,) = api.predictor.queries
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
    ({"regions": [{}]}, "/regions/0/box", "required"),
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
    ({"vocabulary": {"tags": ["leash"]}}, "/vocabulary", "does not support 'vocabulary'"),
    ({"explain": True}, "/explain", "does not support 'explain'"),
    ({"image": {"url": "https://example.org/a.png"}}, "/image/url", "does not support 'url'"),
    ({"image": {"url": None, "base64": ""}}, "/image/url", "does not support 'url'"),
    ({"image": {"base64": "@@@"}}, "/image/base64", "Base64"),
    ({"image": {"base64": "data:image/png;base64,AAAA"}}, "/image/base64", "prefix"),
    ({"image": {"base64": "AAA"}}, "/image/base64", "Base64"),
    ({"image": {"base64": "é"}}, "/image/base64", "Base64"),
    ({"image": {}}, "/image/base64", "required"),
    ({"image": "AAAA"}, "/image", "object"),
    ({"controls": "street"}, "/controls", "list"),
    ({"controls": [""]}, "/controls/0", "empty"),
    ({"controls": ["  "]}, "/controls/0", "spaces"),
    ({"controls": ["x" * 65]}, "/controls/0", "64"),
    ({"controls": ["x"] * 17}, "/controls", "16"),
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
    found = field_errors(api.json(task="poem", explain=True, regions=[{"box": [1]}]))
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


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"II*\x00" + b"\0" * 40, b"PK\x03\x04" + b"\0" * 40])
def test_refused_images(api: ApiClient, data: bytes) -> None:
    assert api.json(image=data or b"\0").status_code == 415
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
        (form_body(("image", b"a"), ("image", b"b"), ("request", REQUEST)), "/image", "twice"),
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
    pixels = parsed.decode()
    assert pixels.shape == (HEIGHT, WIDTH, 3) and parsed.num_regions == 1
    (query,) = parsed.queries(WIDTH, HEIGHT)
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
