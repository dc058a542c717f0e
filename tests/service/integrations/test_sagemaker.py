"""SageMaker's container contract: what its platform sends to /ping and /invocations."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.conftest import ApiFactory, field_errors, image_bytes, one_region
from tests.service.integrations.asked import IMAGE

BODY = {"image": {"base64": IMAGE}, **one_region()}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    return make_api(FakePredictor(finding=FakeFinderSpec()), integrations="sagemaker").client


def test_ping_says_whether_the_model_is_loaded(client: TestClient) -> None:
    pong = client.get("/ping")
    assert (pong.status_code, pong.content) == (200, b"")


def test_a_body_is_that_of_describe(client: TestClient) -> None:
    ours, own = client.post("/invocations", json=BODY).json(), client.post("/v1/describe", json=BODY).json()
    assert ours["regions"][0]["caption"] == own["regions"][0]["caption"]
    several = {"images": [BODY, {"image": {"base64": "%"}, **one_region()}]}
    first, second = client.post("/invocations", json=several).json()["images"]
    assert first["regions"] and second["error"]["status"] == 422


@pytest.mark.parametrize("way", ["member", "header"])
def test_the_endpoint_may_be_detect(client: TestClient, way: str) -> None:
    found = {"image": {"base64": IMAGE}, "names": ["dog"]}
    headers = {ATTRIBUTES: "endpoint=detect"} if way == "header" else {}
    answer = client.post(
        "/invocations", json=found | ({"endpoint": "detect"} if way == "member" else {}), headers=headers
    )
    assert answer.status_code == 200 and "absent" in answer.json()


@pytest.mark.parametrize("given", ["caption", 1, [], {}])
def test_an_unknown_endpoint_is_refused_at_its_place(client: TestClient, given: Any) -> None:
    refused = client.post("/invocations", json={**BODY, "endpoint": given})
    assert refused.status_code == 422
    assert field_errors(refused) == {"/endpoint": "The endpoint is 'describe' or 'detect'."}


@pytest.mark.parametrize("kind", ["image/png", "application/x-image", "application/octet-stream"])
def test_an_image_alone_has_its_fields_in_the_custom_attributes(client: TestClient, kind: str) -> None:
    headers = {"content-type": kind, ATTRIBUTES: "box=8,8,40,40&box=0,0,9,9&task=caption"}
    regions = client.post("/invocations", content=image_bytes(), headers=headers).json()["regions"]
    assert [each["box"] for each in regions] == [[8, 8, 40, 40], [0, 0, 9, 9]]
    assert "caption" in regions[0] and "tags" not in regions[0]


def test_an_image_alone_can_be_searched(client: TestClient) -> None:
    headers = {"content-type": "application/x-image", ATTRIBUTES: "endpoint=detect&name=dog"}
    assert "absent" in client.post("/invocations", content=image_bytes(), headers=headers).json()


def test_other_types_are_refused(client: TestClient) -> None:
    refused = client.post("/invocations", content=b"a,b", headers={"content-type": "text/csv"})
    assert refused.status_code == 415 and "Content-Type" in refused.json()["detail"]


def test_a_key_may_stand_in_the_custom_attributes(make_api: ApiFactory) -> None:
    client = make_api(integrations="sagemaker", api_keys="sesame+1").client
    headers = {"content-type": "image/png", ATTRIBUTES: "key=sesame%2B1&task=caption"}
    assert client.post("/invocations", content=image_bytes(), headers=headers).status_code == 200
    headers[ATTRIBUTES] = "key=wrong"
    assert client.post("/invocations", content=image_bytes(), headers=headers).status_code == 401
    assert client.get("/ping").status_code == 200


def test_a_member_key_is_no_field_of_the_request(client: TestClient) -> None:
    assert client.post("/invocations", json={**BODY, "key": "whatever"}).status_code == 200
