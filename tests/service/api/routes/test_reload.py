"""POST and GET /v1/models/reload: who may, and what is refused before any model is loaded."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from dynrefer.model.errors import ModelNotFoundError
from dynrefer.service.app import create_app
from dynrefer.service.server.auth import new_key
from dynrefer.service.settings import Settings, SettingsError
from tests.fakes import CARD, FakePredictor
from tests.service.conftest import ApiFactory, await_ready, field_errors, image_bytes, in_base64, one_region

PATH = "/v1/models/reload"
BOSS = {"authorization": "Bearer boss"}


def load(location: str) -> FakePredictor:
    """A fake model for every directory but the one that is called "broken"."""
    name = Path(location).name
    if name == "broken":
        raise ModelNotFoundError("it is broken.")
    return FakePredictor(card=replace(CARD, name=name))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """Of an open service, whose administrator has a key."""
    for name in ("second", "broken", "inner/third"):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    settings = Settings(worker_processes=0, admin_keys="boss", models_dir=tmp_path / "models")  # type: ignore[arg-type]
    with TestClient(create_app(settings, FakePredictor(), load_another=load)) as client:
        await_ready(client)
        yield client


def post(client: TestClient, document: Any, **headers: str) -> Response:
    return client.post(PATH, json=document, headers={**BOSS, **headers})


def model_of_an_answer(client: TestClient) -> str:
    document = {"image": {"base64": in_base64(image_bytes())}, **one_region()}
    response = client.post("/v1/describe", json=document)
    assert response.status_code == 200
    return str(response.json()["model"])


def test_another_model_and_back(client: TestClient) -> None:
    assert client.get(PATH, headers=BOSS).json()["serving"]["model"] == "embedded"
    answer = post(client, {"model": "second"})
    assert answer.status_code == 200
    assert answer.json()["serving"] | {"since": None} == {
        "model": "second",
        "name": "second",
        "revision": "0",
        "since": None,
    }
    assert model_of_an_answer(client) == "second"
    assert client.get("/v1/models").json()["models"][0]["name"] == "second"
    assert post(client, {"model": "inner/third"}).json()["previous"] == "second"
    assert post(client, {"previous": True}).json()["previous"] == "inner/third"
    assert client.get(PATH, headers=BOSS).json()["serving"]["name"] == model_of_an_answer(client) == "second"


def test_a_directory_by_its_whole_path(client: TestClient, tmp_path: Path) -> None:
    assert post(client, {"model": str(tmp_path / "models" / "second")}).status_code == 200
    refused = post(client, {"model": str(tmp_path / "outside")})
    assert refused.status_code == 422 and "is not in the folder models_dir" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        ({}, {"": "Give either 'model' or 'previous': true."}),
        ({"model": "second", "previous": True}, {"": "Give either 'model' or 'previous': true."}),
        ({"model": ""}, {"/model": "The text must not be empty."}),
        ({"model": 3}, {"/model": "A text is expected."}),
        ({"model": "second", "unload_first": "yes"}, {"/unload_first": "true or false is expected."}),
        ({"modell": "second"}, {"/modell": "Unknown field 'modell'. Did you mean 'model'?"}),
        ([], {"": "An object is expected."}),
        (
            {"model": "../outside"},
            {"/model": "'../outside' is not in the folder models_dir of this service; name one that is."},
        ),
        ({"model": "fourth"}, {"/model": "There is no directory 'fourth' in the folder models_dir of this service."}),
        ({"model": "x" * 1_025}, {"/model": "This value is not valid."}),
        ({"model": "broken"}, {"/model": "It is broken. The model that served goes on."}),
    ],
)
def test_what_cannot_be_loaded_is_told_at_its_field(client: TestClient, document: Any, errors: dict[str, str]) -> None:
    refused = post(client, document)
    assert refused.status_code == 422
    assert field_errors(refused) == errors
    assert model_of_an_answer(client) == "fake"


def test_other_bodies(client: TestClient) -> None:
    assert client.post(PATH, content=b"{", headers={**BOSS, "content-type": "application/json"}).status_code == 422
    assert client.post(PATH, content=b"second", headers={**BOSS, "content-type": "text/plain"}).status_code == 415
    assert post(client, {"model": "second"}, **{"content-encoding": "gzip"}).status_code == 415
    assert post(client, {"model": "x" * 20_000}).status_code == 413
    assert post(client, {"model": "second"}, **{"x-request-timeout": "soon"}).status_code == 422
    assert client.put(PATH, headers=BOSS).status_code == 405


def test_only_administrators_may_even_where_all_else_is_open(client: TestClient) -> None:
    for headers in ({}, {"authorization": "Bearer other"}):
        assert client.get(PATH, headers=headers).status_code == 401
        assert client.post(PATH, json={"model": "second"}, headers=headers).status_code == 401
    assert client.get("/v1/models").status_code == 200
    assert model_of_an_answer(client) == "fake"


def test_other_clients_are_forbidden(make_api: ApiFactory) -> None:
    client = make_api(api_keys="user", admin_keys="boss").client
    refused = client.get(PATH, headers={"authorization": "Bearer user"})
    assert refused.status_code == 403 and refused.json()["type"].endswith(":forbidden")
    assert client.get(PATH, headers=BOSS).status_code == client.get("/v1/models", headers=BOSS).status_code == 200
    assert client.get("/v1/models").status_code == 401


def test_without_keys_of_administrators_the_path_is_not_there(make_api: ApiFactory) -> None:
    client = make_api().client
    assert client.get(PATH).status_code == client.post(PATH, headers=BOSS).status_code == 404
    client = make_api(api_keys="user").client
    assert client.post(PATH, headers={"authorization": "Bearer user"}).status_code == 404


def test_without_a_folder_only_what_the_service_knows_is_loaded(make_api: ApiFactory) -> None:
    refused = make_api(admin_keys="boss", model="/models/first").client.post(PATH, json={"model": "v2"}, headers=BOSS)
    assert field_errors(refused)["/model"] == (
        "This service loads 'embedded' and '/models/first' alone: it was started without the setting models_dir."
    )


def test_keys_of_administrators_from_a_file(make_api: ApiFactory, tmp_path: Path) -> None:
    key, line = new_key("alice")
    (tmp_path / "admins").write_text(line)
    client = make_api(admin_keys_file=tmp_path / "admins").client
    assert client.get(PATH, headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_a_key_is_an_administrators_or_another_clients(tmp_path: Path) -> None:
    """One of both would be taken for either; names too, which the log and the shares of the queue go by."""
    (_, line), (_, other) = new_key("alice"), new_key("alice")
    (tmp_path / "users").write_text(line)
    (tmp_path / "admins").write_text(other)
    for settings in (
        {"api_keys": "same", "admin_keys": "same"},
        {"api_keys_file": tmp_path / "users", "admin_keys_file": tmp_path / "admins"},
    ):
        with pytest.raises(SettingsError, match="stands among the API keys too"):
            create_app(Settings(**settings), FakePredictor())  # type: ignore[arg-type]
    (tmp_path / "admins").write_text("")
    with pytest.raises(SettingsError, match="admin_keys_file .* holds no key"):
        create_app(Settings(admin_keys_file=tmp_path / "admins"), FakePredictor())
