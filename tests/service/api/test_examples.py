"""Every operation of the OpenAPI document has examples: requests that can be sent as they stand, their real answers,
and every problem with what the service really says."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dynrefer.service.api.examples import SAMPLE_PATH, operations
from dynrefer.service.api.problems import PROBLEM_JSON, TABLE
from tests.service.api.example_requests import ABOUT_IMAGES, ADMIN, POSTS
from tests.service.api.provoked_problems import provoked
from tests.service.api.update_examples import MOST_LINES, content_of
from tests.service.api.update_openapi import current
from tests.service.conftest import ApiFactory
from tests.service.server.test_process import Server, running

Json = dict[str, Any]

DOCUMENT = current()
OPERATIONS = dict(operations(DOCUMENT))
# Problems of requests about images alone, and of those about models.
OF_IMAGES, OF_MODELS = {"image-too-large", "image-too-costly"}, {"model-not-loaded"}
TOLERANCE = 1e-3  # absolute or relative, whichever is larger
# What differs from run to run, or from machine to machine.
VARYING = {"id", "created", "since", "timings_ms", "batch_invariant", "counts", "device", "dtype"}


def contents(operation: str) -> Iterator[tuple[str, Json]]:
    """Where a body of the operation is declared, and its Media Type Object."""
    for media, content in OPERATIONS[operation].get("requestBody", {}).get("content", {}).items():
        yield media, content
    for status, response in OPERATIONS[operation]["responses"].items():
        for media, content in response["content"].items():
            yield f"{status} {media}", content


def validator(schema: Json) -> Draft202012Validator:
    """Of a schema of the document."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_body_has_examples_that_its_schema_allows(operation: str) -> None:
    for where, content in contents(operation):
        assert content.get("examples"), f"{where} has no example: python -m tests.service.api.update_examples"
        for name, example in content["examples"].items():
            assert example["summary"], (where, name)
            if "value" in example:
                assert not [error.message for error in validator(content["schema"]).iter_errors(example["value"])]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_required_parameter_has_an_example(operation: str) -> None:
    for parameter in OPERATIONS[operation].get("parameters", ()):
        assert "example" in parameter or not parameter.get("required")
        if "example" in parameter:
            assert validator(parameter["schema"]).is_valid(parameter["example"])


@pytest.mark.parametrize("operation", POSTS)
def test_every_request_has_its_answer(operation: str) -> None:
    requests = OPERATIONS[operation]["requestBody"]["content"]
    named = [name for content in requests.values() for name in content["examples"]]
    assert named == list(POSTS[operation])
    assert list(OPERATIONS[operation]["responses"]["200"]["content"]["application/json"]["examples"]) == named


def test_every_problem_has_an_example_where_its_status_is_declared() -> None:
    slugs: dict[str, set[str]] = {}
    for problem in TABLE.values():
        slugs.setdefault(str(problem.status), set()).add(problem.slug)
    for operation in POSTS:
        declared = OPERATIONS[operation]["responses"]
        elsewhere = OF_MODELS if operation in ABOUT_IMAGES else OF_IMAGES
        shown = {
            status: set(response["content"][PROBLEM_JSON]["examples"])
            for status, response in declared.items()
            if status != "200"
        }
        wanted = {status: each - elsewhere for status, each in slugs.items() if status in declared}
        assert shown == wanted, operation
    everywhere = {
        slug
        for operation in OPERATIONS
        for where, content in contents(operation)
        if where.endswith(PROBLEM_JSON)
        for slug in content["examples"]
    }
    assert everywhere == set().union(*slugs.values())


def test_problems_are_what_the_service_says() -> None:
    found = provoked()
    shown = {
        operation: {
            slug: example["value"]
            for where, content in contents(operation)
            if where.endswith(PROBLEM_JSON)
            for slug, example in content["examples"].items()
        }
        for operation in OPERATIONS
    }
    assert {operation: problems for operation, problems in shown.items() if problems} == found


def test_metrics_on_a_port_of_their_own_are_not_in_the_document(make_api: ApiFactory) -> None:
    document = make_api(metrics_port=0).client.get("/openapi.json").json()
    assert "/metrics" not in document["paths"] and "/v1/describe" in document["paths"]


def differences(stored: Any, found: Any, where: str = "") -> list[str]:
    """Where an answer is not as the example, beyond rounding."""
    if isinstance(stored, dict) and isinstance(found, dict):
        lines = [f"{where}/{key}: gone or new" for key in stored.keys() ^ found.keys()]
        for key in stored.keys() & found.keys():
            if key not in VARYING:
                lines += differences(stored[key], found[key], f"{where}/{key}")
        return lines
    if isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        return [
            line
            for place, pair in enumerate(zip(stored, found, strict=True))
            for line in differences(*pair, f"{where}/{place}")
        ]
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in (stored, found)]
    if all(numbers) and abs(stored - found) <= TOLERANCE * max(1.0, abs(stored)):
        return []
    return [] if stored == found else [f"{where}: {stored!r} became {found!r}"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service with the embedded model."""
    with running("dynrefer.service.cli", "serve", "--device", "cpu", DYNREFER_ADMIN_KEYS=ADMIN) as server:
        server.await_ready()
        yield server


@pytest.mark.server
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_the_embedded_model_answers_as_the_examples_say(server: Server, operation: str) -> None:
    """Sent as they stand in the document that the service serves."""
    import httpx2

    method, _, path = operation.partition(" ")
    described = json.loads(server.get("/openapi.json")[1])["paths"][path][method.lower()]
    headers = {"authorization": f"Bearer {ADMIN}"}
    with httpx2.Client(base_url=server.address, timeout=120, headers=headers) as client:
        (media, content), *_ = described["responses"]["200"]["content"].items()
        for name, example in content["examples"].items():
            if method == "POST":
                response = client.post(path, **_sent(described, name, server))
            else:
                values = {each["name"]: each.get("example") for each in described.get("parameters", ())}
                response = client.get(path.format(**values))
            found = content_of(response)
            if media == "text/plain":
                assert len(found.splitlines()) == MOST_LINES and found.startswith("# HELP dynrefer_")
            else:
                assert differences(example["value"], found, name) == []


def _sent(described: Json, name: str, server: Server) -> Json:
    """A request of the document as keyword arguments of `post`, with the file at the address that it names."""
    (media,) = (media for media, each in described["requestBody"]["content"].items() if name in each["examples"])
    example = described["requestBody"]["content"][media]["examples"][name]
    if media == "application/json":
        return {"json": example["value"]}
    image = server.get("/" + SAMPLE_PATH)[1]
    if media == "multipart/form-data":
        files = example["value"]["image"]
        assert SAMPLE_PATH.endswith("/scene.webp") and files in ("scene.webp", ["scene.webp"])
        return {"files": {"image": ("scene.webp", image)}, "data": {"request": json.dumps(example["value"]["request"])}}
    assert example["externalValue"] == SAMPLE_PATH
    (fields,) = (each["example"] for each in described["parameters"] if each["name"] == "fields")
    return {"content": image, "params": fields, "headers": {"content-type": "image/webp"}}


def test_a_changed_answer_is_noticed() -> None:
    (example,) = (
        each["value"]
        for name, each in OPERATIONS["POST /v1/detect"]["responses"]["200"]["content"]["application/json"][
            "examples"
        ].items()
        if name == "described"
    )
    changed = copy.deepcopy(example)
    assert differences(example, changed) == []
    changed["regions"][0]["score"] += 2e-3
    changed["regions"][0]["label"] = "cow"
    del changed["absent"]
    changed["id"] = "another"
    assert len(differences(example, changed)) == 3
