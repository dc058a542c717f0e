"""The OpenAPI document is a committed snapshot, so that no change of the contract goes unnoticed."""

import json

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from dynrefer.service.api import openapi
from tests.service.api.example_requests import ADMIN
from tests.service.api.update_openapi import SNAPSHOT, current
from tests.service.conftest import ApiClient, ApiFactory


def test_snapshot() -> None:
    assert current() == json.loads(SNAPSHOT.read_text(encoding="utf-8")), (
        "the contract changed; if on purpose: python -m tests.service.api.update_openapi"
    )


@pytest.mark.parametrize("with_keys", [False, True])
def test_the_document_is_valid(make_api: ApiFactory, with_keys: bool) -> None:
    """By OpenAPI 3.1's own schema, with its defaults and references."""
    document = make_api(**({"api_keys": "sesame"} if with_keys else {})).client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_an_invalid_document_is_noticed() -> None:
    document = current()
    del document["paths"]["/v1/describe"]["post"]["responses"]["200"]["description"]
    document["components"]["schemas"]["ImageAddress"]["properties"]["url"]["default"] = None
    assert len(list(OpenAPIV31SpecValidator(document).iter_errors())) == 2


def test_the_service_serves_the_document(make_api: ApiFactory) -> None:
    assert make_api(admin_keys=ADMIN).client.get("/openapi.json").json() == current()


def test_routes_of_administrators_are_there_only_where_they_have_keys(api: ApiClient) -> None:
    document = api.client.get("/openapi.json").json()
    assert set(current()["paths"]) - set(document["paths"]) == {"/v1/models/reload"}


def test_the_document_is_made_once(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = api.client.get("/openapi.json")
    monkeypatch.setattr(openapi, "document", None)  # called again, it would fail
    again = api.client.get("/openapi.json")
    assert again.content == first.content and again.headers["etag"] == first.headers["etag"]


def test_a_client_that_has_the_document_need_not_read_it_again(api: ApiClient) -> None:
    tag = api.client.get("/openapi.json").headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        response = api.client.get("/openapi.json", headers={"if-none-match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    assert api.client.get("/openapi.json", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("status", ["401", "413", "415", "422", "429", "500", "503", "504"])
def test_every_error_status_is_declared(status: str) -> None:
    answer = current()["paths"]["/v1/describe"]["post"]["responses"][status]
    assert list(answer["content"]) == ["application/problem+json"]


def test_references_resolve() -> None:
    text = json.dumps(current())
    schemas = current()["components"]["schemas"]
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(schemas)
    assert {"DescribeRequest", "DescribeFields", "DescribeResponse", "Problem"} <= names
