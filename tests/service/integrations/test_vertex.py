"""Vertex AI's contract of a container. Its own client reaches a container through Google's service or Docker alone, so
that requests as its documentation has them stand in.
"""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from dynrefer.service.settings import SettingsError
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.conftest import ApiFactory, one_region
from tests.service.integrations.asked import IMAGE, as_google_error
from tests.service.server.test_process import running

INSTANCE = {"image": {"base64": IMAGE}, **one_region()}
PATH = "/vertex/predict"


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    return make_api(FakePredictor(finding=FakeFinderSpec()), integrations="vertex").client


def predict(client: TestClient, *instances: Any, **parameters: Any) -> Response:
    return client.post(PATH, json={"instances": list(instances), "parameters": parameters})


def predictions(client: TestClient, *instances: Any, **parameters: Any) -> list[dict[str, Any]]:
    response = predict(client, *instances, **parameters)
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"predictions"}
    found: list[dict[str, Any]] = response.json()["predictions"]
    assert len(found) == len(instances)
    return found


def flaws(response: Response) -> dict[str, str]:
    """The fields at fault."""
    as_google_error(response.json())
    details = response.json()["error"]["details"]
    (flaws,) = [each["fieldViolations"] for each in details if each["@type"].endswith("BadRequest")]
    return {each["field"]: each["description"] for each in flaws}


def test_predictions_come_in_order_and_a_bad_one_fails_alone(client: TestClient) -> None:
    small = {"image": {"base64": IMAGE}, "regions": [{"box": [0, 0, 9, 9], "id": "small"}]}
    first, second, third = predictions(client, INSTANCE, {"image": {"base64": "%"}, **one_region()}, small)
    assert first["regions"][0]["caption"] and third["regions"][0]["id"] == "small"
    assert second["error"]["status"] == 422
    assert second["error"]["errors"][0]["pointer"] == "/instances/1/image/base64"


def test_parameters_apply_to_all(client: TestClient) -> None:
    for found in predictions(client, INSTANCE, INSTANCE, task="tags", top_k=1):
        (region,) = found["regions"]
        assert len(region["tags"]) == 1 and "caption" not in region


@pytest.mark.parametrize("parameters", [{}, {"parameters": None}, {"parameters": {}}])
def test_parameters_may_be_left_out(client: TestClient, parameters: dict[str, Any]) -> None:
    assert client.post(PATH, json={"instances": [INSTANCE], **parameters}).status_code == 200


def test_regions_may_fail_alone_too(client: TestClient) -> None:
    mixed = {**INSTANCE, "regions": [{"box": [9, 9, 1, 1]}, {"box": [0, 0, 9, 9]}]}
    (found,) = predictions(client, mixed, on_region_error="report")
    assert found["regions"][0]["error"]["errors"][0]["pointer"] == "/instances/0/regions/0/box"
    assert found["regions"][1]["caption"]


def test_the_endpoint_may_be_detect(client: TestClient) -> None:
    image = {"image": {"base64": IMAGE}}
    first, second, third = predictions(
        client, image, {"image": {"base64": "%"}}, image, endpoint="detect", names=["dog"]
    )
    assert first["absent"] == third["absent"] and first["regions"] == third["regions"]
    assert set(first) == {"image", "regions", "absent", "timings_ms"} | ({"unknown_words"} & set(first))
    assert second["error"]["errors"][0]["pointer"] == "/instances/1/image/base64"


@pytest.mark.parametrize(
    ("parameters", "at"),
    [
        ({"task": "nothing"}, "/parameters/task"),
        ({"taks": "tags"}, "/parameters/taks"),
        ({"endpoint": "caption"}, "/parameters/endpoint"),
        ({"regions": [{"box": [0, 0, 9, 9]}]}, "/parameters/regions"),
        ({"endpoint": "detect", "threshold": 2}, "/parameters/threshold"),
        ({"endpoint": "detect", "image": {"base64": IMAGE}}, "/parameters/image"),
        ({"endpoint": "detect", "names": ["dog", "dog"]}, "/parameters/names/1"),
    ],
)
def test_what_is_wrong_with_parameters_refuses_the_request(
    client: TestClient, parameters: dict[str, Any], at: str
) -> None:
    refused = predict(client, {"image": {"base64": IMAGE}}, **parameters)
    assert refused.status_code == 400 and refused.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert at in flaws(refused)


@pytest.mark.parametrize(
    ("instance", "parameters", "said"),
    [
        ({**INSTANCE, "task": "tags"}, {}, "'task' applies to all instances: it stands in 'parameters'."),
        ({"image": {"base64": IMAGE}, "names": ["a"]}, {"endpoint": "detect"}, "'names' applies to all instances"),
        ({"image": {"base64": IMAGE}}, {}, "This field is required."),
        ("text", {}, "An object with an image and its regions is expected."),
        ("text", {"endpoint": "detect"}, "An object with an image is expected."),
        ({"image": {"base64": IMAGE}, "colour": 1}, {"endpoint": "detect"}, "Unknown field 'colour'."),
    ],
)
def test_what_is_wrong_with_an_instance_is_its_own(
    client: TestClient, instance: Any, parameters: dict[str, Any], said: str
) -> None:
    good = {"image": {"base64": IMAGE}} if parameters else INSTANCE
    first, second = predictions(client, good, instance, **parameters)
    assert "error" not in first
    assert said in second["error"]["detail"]
    assert all(each["pointer"].startswith("/instances/1") for each in second["error"]["errors"])


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ([], ""),
        ({}, "/instances"),
        ({"instances": []}, "/instances"),
        ({"instances": {}}, "/instances"),
        ({"instances": [INSTANCE] * 17}, "/instances"),
        ({"instances": [INSTANCE], "parameters": []}, "/parameters"),
        ({"instances": [INSTANCE], "key~/": 1}, "/key~0~1"),
    ],
)
def test_a_body_of_another_form_is_refused(client: TestClient, body: Any, at: str) -> None:
    refused = client.post(PATH, json=body)
    assert refused.status_code == 400 and list(flaws(refused)) == [at]


def test_only_json_is_taken(client: TestClient) -> None:
    refused = client.post(PATH, content=b"x", headers={"content-type": "image/png"})
    assert refused.status_code == 415 and as_google_error(refused.json()).startswith("The Content-Type")


def test_a_full_queue_refuses_all(make_api: ApiFactory) -> None:
    client = make_api(
        FakePredictor(finding=FakeFinderSpec()), integrations="vertex", max_regions=2, max_queue_regions=2
    )
    image = {"image": {"base64": IMAGE}}
    refused = predict(client.client, *[image] * 16, endpoint="detect")
    assert refused.status_code == 429 and refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert refused.headers["retry-after"]


def test_more_searches_than_the_queue_has_room_for_take_turns(make_api: ApiFactory) -> None:
    """The queue is idle: nothing that would be answered alone is turned away for its neighbours in the request."""
    predictor = FakePredictor(finding=FakeFinderSpec())
    for keys in ("", "one,two"):
        client = make_api(predictor, integrations="vertex", api_keys=keys).client
        image = {"image": {"base64": IMAGE}}
        parameters = {"endpoint": "detect", "names": ["dog"], **({"key": "one"} if keys else {})}
        assert all(found["regions"] for found in predictions(client, *[image] * 16, **parameters))


def test_a_key_may_stand_in_the_parameters(make_api: ApiFactory) -> None:
    client = make_api(integrations="vertex", api_keys="sesame").client
    assert predict(client, INSTANCE, key="sesame").status_code == 200
    refused = predict(client, INSTANCE, key="wrong")
    assert refused.status_code == 401 and refused.json()["error"]["status"] == "UNAUTHENTICATED"
    assert "'parameters.key'" in as_google_error(refused.json())
    assert client.get("/vertex/health").status_code == 200


# What the platform sets for a model that was uploaded without routes of its own.
ROUTES = {
    "AIP_HEALTH_ROUTE": "/v1/endpoints/123/deployedModels/456",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/123/deployedModels/456:predict",
}


def test_the_platform_names_the_paths(make_api: ApiFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ROUTES.items():
        monkeypatch.setenv(name, value)
    client = make_api(integrations="vertex", api_keys="sesame").client
    assert client.get(ROUTES["AIP_HEALTH_ROUTE"]).status_code == 200
    answer = client.post(ROUTES["AIP_PREDICT_ROUTE"], json={"instances": [INSTANCE], "parameters": {"key": "sesame"}})
    assert answer.status_code == 200
    assert client.post(PATH, json={}).status_code == 401


def test_the_services_own_probe_may_be_named(make_api: ApiFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/health")
    assert make_api(integrations="vertex").client.get("/health").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AIP_PREDICT_ROUTE", "predict", "AIP_PREDICT_ROUTE 'predict' is invalid: a path is expected"),
        ("AIP_HEALTH_ROUTE", "/{name}", "AIP_HEALTH_ROUTE '/{name}' is invalid"),
        (
            "AIP_PREDICT_ROUTE",
            "/v1/describe",
            "/v1/describe cannot be a path of the integration vertex: the service it",
        ),
        ("AIP_PREDICT_ROUTE", "/v1/models/reload", "/v1/models/reload cannot be a path of the integration vertex"),
        ("AIP_PREDICT_ROUTE", "/vertex/health", "AIP_PREDICT_ROUTE /vertex/health is a path that needs no key"),
        ("AIP_PREDICT_ROUTE", "/static/predict", "AIP_PREDICT_ROUTE /static/predict is a path that needs no key"),
        ("AIP_PREDICT_ROUTE", "/invocations", "/invocations cannot be a path of the integration vertex: sagemaker has"),
    ],
)
def test_a_path_that_cannot_be_one_stops_the_start(
    make_api: ApiFactory, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        make_api(integrations="sagemaker,vertex")
    assert said in str(raised.value)


@pytest.mark.server
def test_a_container_listens_where_the_platform_says() -> None:
    flags = {"DYNREFER_PORT": "", "DYNREFER_INTEGRATIONS": "vertex", "AIP_HTTP_PORT": "0", "PORT": "1", **ROUTES}
    with running("tests.serve_fake", **flags) as server:  # type: ignore[arg-type]
        server.await_ready()
        assert not server.address.endswith(":8000")
        assert server.get(ROUTES["AIP_HEALTH_ROUTE"]) == (200, b"")
        status, answer = server.post(ROUTES["AIP_PREDICT_ROUTE"], {"instances": [INSTANCE]})
        assert status == 200 and answer["predictions"][0]["regions"]
