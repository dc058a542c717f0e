"""The paths of X-AnyLabeling's remote server, without the program: what is asked, what is drawn, what is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from openapi_spec_validator import validate

from dynrefer.model.segmentation import SegmentationSpec
from dynrefer.service.integrations.x_anylabeling import routes
from dynrefer.service.integrations.x_anylabeling.prediction import Prediction, read_prediction
from tests.fake_finder import BOXES, FakeFinderSpec
from tests.fakes import CARD, FakePredictor
from tests.service.conftest import ApiFactory, image_bytes, in_base64, turned_image_bytes
from tests.service.integrations.asked import as_success_false, marked

PREDICT = "/x-anylabeling/v1/predict"
BOX = {"type": "rectangle", "data": [40, 40, 8, 8], "label": 1}  # drawn from its lower right corner
CLICK = {"type": "point", "data": [20, 20], "label": 1}


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    """Of a service that finds and takes points."""
    card = replace(CARD, detection=True, prompts=("box", "points"))
    predictor = FakePredictor(card, finding=FakeFinderSpec(), segmentation=SegmentationSpec(side=16, windows=1))
    return make_api(predictor, integrations="x-anylabeling").client


def predict(client: TestClient, image: bytes | None = None, **params: Any) -> Response:
    document = {"model": "fake", "image": in_base64(image or image_bytes()), "params": params}
    return client.post(PREDICT, json=document)


def shapes(answer: Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    found: list[dict[str, Any]] = answer.json()["data"]["shapes"]
    return found


def test_names_are_found_and_described(client: TestClient) -> None:
    first, *_ = shapes(predict(client, current_task="find_names", text_prompt=" dog ,, small  fox. dog"))
    x1, y1, x2, y2 = BOXES[0]
    assert first["label"] == "dog" and first["shape_type"] == "rectangle"
    assert first["points"] == [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    assert 0 < first["score"] <= 1 and first["description"]


def test_the_windows_threshold_and_filter_hold(client: TestClient) -> None:
    everything = shapes(predict(client, text_prompt="dog", conf_threshold=0.0))
    best = max(each["score"] for each in everything)
    assert len(shapes(predict(client, text_prompt="dog", conf_threshold=best))) < len(everything)
    assert shapes(predict(client, text_prompt="dog", filter_classes=["cat"])) == []
    for kept in ([], ["dog"]):
        assert shapes(predict(client, text_prompt="dog", filter_classes=kept)) == everything


def test_outlines_are_polygons_of_the_mask(client: TestClient) -> None:
    found = shapes(predict(client, current_task="find_names_masks", text_prompt="dog"))
    assert {each["shape_type"] for each in found} == {"polygon"}
    assert all(len(each["points"]) >= 3 for each in found)


def test_drawn_boxes_are_described_and_what_is_there_stays(client: TestClient) -> None:
    answer = predict(client, marks=[BOX, {**BOX, "data": [0, 0, 20, 20]}])
    first, second = shapes(answer)
    assert first["points"] == [[8, 8], [40, 8], [40, 40], [8, 40]] and second["points"][2] == [20, 20]
    assert first["label"] in CARD.vocabulary["categories"] and first["description"]
    assert answer.json()["data"]["replace"] is False


def test_clicks_are_outlined_and_stay_unfinished(client: TestClient) -> None:
    answer = predict(client, current_task="outline_clicked", marks=[CLICK, {**CLICK, "data": [1, 1], "label": 0}])
    (shape,) = shapes(answer)
    assert shape["label"] == "AUTOLABEL_OBJECT" and shape["shape_type"] == "polygon" and shape["description"]


def test_the_image_is_described(client: TestClient) -> None:
    data = predict(client, current_task="describe_image").json()["data"]
    assert data["shapes"] == [] and data["description"] and data["replace"] is False


def test_coordinates_are_of_the_files_rows_and_columns(client: TestClient) -> None:
    """As the program shows the image, whatever its EXIF orientation."""
    (shape,) = shapes(predict(client, turned_image_bytes(), marks=[{**BOX, "data": [0, 0, 64, 48]}]))
    assert shape["points"] == [[0, 0], [64, 0], [64, 48], [0, 48]]


def test_models_and_health(client: TestClient) -> None:
    assert client.get("/x-anylabeling/health").json()["status"] == "healthy"
    listed = client.get("/x-anylabeling/v1/models").json()["data"]
    assert list(listed) == ["fake"] and len(listed["fake"]["available_tasks"]) == 8
    info = client.get("/x-anylabeling/v1/models/fake/info").json()["data"]
    assert info == {"model_id": "fake", **listed["fake"]}
    missing = client.get("/x-anylabeling/v1/models/other/info")
    assert missing.status_code == 404 and "'fake'" in missing.json()["error"]["message"]


def test_a_model_that_is_switched_while_a_request_comes_does_not_answer_under_the_former_name(
    make_api: ApiFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(integrations="x-anylabeling")

    def read_then_switch(*arguments: Any) -> Prediction:
        prediction = read_prediction(*arguments)
        api.predictor.card = replace(api.predictor.card, revision="next")
        return prediction

    monkeypatch.setattr(routes, "read_prediction", read_then_switch)
    document = marked(f"data:image/png;base64,{in_base64(image_bytes())}")
    refused = api.client.post("/x-anylabeling/v1/predict", json=document)
    assert refused.status_code == 404 and "Another model than 'fake' serves" in as_success_false(refused.json())
    assert not api.predictor.batches


def test_tasks_are_those_that_the_model_can_do(make_api: ApiFactory) -> None:
    client = make_api(integrations="x-anylabeling").client
    tasks = client.get("/x-anylabeling/v1/models").json()["data"]["fake"]["available_tasks"]
    assert [task["id"] for task in tasks] == ["describe_boxes", "describe_image"]
    assert predict(client).json()["data"]["description"]
    refused = predict(client, current_task="find_all")
    assert refused.status_code == 422 and "describe_boxes, describe_image" in refused.json()["error"]["message"]


def test_the_key_is_the_programs_token(make_api: ApiFactory) -> None:
    client = make_api(integrations="x-anylabeling", api_keys="sesame").client
    assert client.get("/x-anylabeling/health").status_code == 200
    refused = client.get("/x-anylabeling/v1/models", headers={"token": "wrong"})
    assert refused.status_code == 401 and "settings of the remote server" in refused.json()["error"]["message"]
    assert client.get("/x-anylabeling/v1/models", headers={"token": "sesame"}).status_code == 200


@pytest.mark.parametrize(
    ("params", "pointer", "sentence"),
    [
        ({"current_task": "find_names"}, "/params/text_prompt", "Write what to find"),
        ({"current_task": "find_names", "text_prompt": " , ."}, "/params/text_prompt", "Write what to find"),
        ({"current_task": "find_sentence"}, "/params/text_prompt", "Write a sentence"),
        ({"current_task": "describe_boxes"}, "/params/marks", "Draw a box"),
        ({"current_task": "outline_clicked"}, "/params/marks", "Click on the object"),
        ({"marks": [BOX, CLICK]}, "/params/marks/1", "boxes around objects alone"),
        ({"marks": [{**BOX, "label": 0}]}, "/params/marks/0", "boxes around objects alone"),
        ({"marks": [CLICK, BOX]}, "/params/marks/1", "points alone"),
        ({"marks": [{**BOX, "data": [1, 2, 3]}]}, "/params/marks/0/data", "four numbers"),
        ({"marks": [{**BOX, "data": [90, 90, 99, 99]}]}, "/params/marks/0", "wholly outside"),
        ({"marks": [{**BOX, "type": "auto_grid"}]}, "/params/marks/0/type", "must be one of"),
        ({"marks": [BOX] * 65}, "/params/marks", "at most 64"),
        ({"current_task": 7}, "/params/current_task", "text is expected"),
        ({"conf_threshold": 3}, "/params/conf_threshold", "too large"),
        ({"text_prompt": ",".join(f"name{n}" for n in range(2_000))}, "/params/text_prompt", "at most"),
    ],
)
def test_what_is_refused_names_the_programs_own_field(
    client: TestClient, params: dict[str, Any], pointer: str, sentence: str
) -> None:
    refused = predict(client, **params)
    assert refused.status_code == 422
    (error,) = refused.json()["error"]["details"]["errors"]
    assert error["pointer"] == pointer and sentence in error["detail"]


@pytest.mark.parametrize(
    ("image", "sentence"), [("", "is empty"), ("%%%", "not standard Base64"), (in_base64(b"no image"), "")]
)
def test_what_is_no_image_is_refused(client: TestClient, image: str, sentence: str) -> None:
    refused = client.post(PREDICT, json={"model": "fake", "image": image, "params": {}})
    assert refused.status_code in (415, 422)
    assert sentence in refused.json()["error"]["message"]


def test_another_model_is_not_found(client: TestClient) -> None:
    refused = client.post(PREDICT, json={"model": "yolo11n", "image": "x"})
    assert refused.status_code == 404 and refused.json()["error"]["code"] == "NOT_FOUND"


def test_an_image_may_be_larger_than_any_text(client: TestClient) -> None:
    noise = image_bytes("BMP") + b"\0" * 3_000_000
    assert shapes(predict(client, noise, marks=[BOX]))


def test_the_openapi_document_says_what_a_request_holds(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    body = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    marks = body["properties"]["params"]["properties"]["marks"]
    assert body["required"] == ["model", "image"] and "label" in marks["items"]["properties"]
    assert "$ref" not in json.dumps(body)
