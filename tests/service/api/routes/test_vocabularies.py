"""GET /v1/vocabularies, vocabularies by name in requests, and the language of an answer's names."""

import json
from pathlib import Path
from typing import Any

import pytest

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings, SettingsError, load_settings
from tests.fakes import FakePredictor
from tests.service.conftest import ApiClient, ApiFactory, image_bytes, in_base64, one_region

PETS = {
    "name": "pets",
    "description": "Animals at home.",
    "categories": [{"name": "dog", "translations": {"de": "Hund"}, "synonyms": ["hound"]}, "cat"],
    "thresholds": {"categories": 0.25},
    "calibration": {"categories": {"scale": 2.0, "bias": -1.0}},
}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(PETS), encoding="utf-8")
    return path


def listed(api: ApiClient) -> dict[str, Any]:
    found = api.client.get("/v1/vocabularies").json()["vocabularies"]
    return {each["name"]: each for each in found}


def test_shipped_vocabularies_are_listed(api: ApiClient) -> None:
    found = listed(api)
    assert list(found) == sorted(found) == ["coco", "everyday", "lvis", "model"]
    assert found["coco"]["sizes"] == {"categories": 80}
    assert found["lvis"]["sizes"] == {"categories": 1203}
    assert found["model"]["sizes"] == {"categories": 3, "attributes": 2, "tags": 3}
    assert api.client.head("/v1/vocabularies").status_code == 200


def test_vocabulary_of_a_file_with_all_its_words(make_api: ApiFactory, pets: Path) -> None:
    api = make_api(vocabularies=(pets,))
    assert listed(api)["pets"]["languages"] == ["de"]
    assert api.client.get("/v1/vocabularies/pets").json() == {
        "name": "pets",
        "description": "Animals at home.",
        "sizes": {"categories": 2},
        "languages": ["de"],
        "categories": [
            {"name": "dog", "synonyms": ["hound"], "translations": {"de": "Hund"}, "threshold": 0.25},
            {"name": "cat", "threshold": 0.25},
        ],
        "calibration": {"categories": {"scale": 2.0, "bias": -1.0}},
    }


def test_the_models_own_vocabulary(api: ApiClient) -> None:
    found = api.client.get("/v1/vocabularies/model").json()
    assert [each["name"] for each in found["tags"]] == ["dog", "street", "leash"]


def test_a_name_that_nothing_has(api: ApiClient) -> None:
    response = api.client.get("/v1/vocabularies/cocoo")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "There is no vocabulary 'cocoo'. Did you mean 'coco'?"


def test_request_names_a_vocabulary(make_api: ApiFactory, pets: Path) -> None:
    api = make_api(vocabularies=(pets,))
    assert api.json(vocabulary="pets").status_code == 200
    assert api.json(vocabulary={"categories": "pets", "tags": "model"}).status_code == 200
    assert api.json(vocabulary="model").status_code == 200
    errors = api.json(vocabulary="petz").json()["errors"]
    assert errors[0]["pointer"] == "/vocabulary" and "Did you mean 'pets'?" in errors[0]["detail"]
    errors = api.json(vocabulary={"tags": "pets"}).json()["errors"]
    assert errors == [{"pointer": "/vocabulary/tags", "detail": "The vocabulary 'pets' has no tags."}]


def test_settings_take_files_and_folders(monkeypatch: pytest.MonkeyPatch, pets: Path) -> None:
    monkeypatch.setenv("DYNREFER_VOCABULARIES", f"{pets}, {pets.parent}")
    assert load_settings().vocabularies == (pets, pets.parent)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({**PETS, "name": "coco"}, "its name 'coco' is that of a vocabulary that ships; choose another."),
        ({**PETS, "categories": ["dog", ""]}, "at /categories/1: A word must not be empty."),
        ({**PETS, "descripton": ""}, "unknown key 'descripton'; did you mean 'description'?"),
        (
            {**PETS, "thresholds": {"tags": 1}},
            "thresholds holds 'tags', which is no list of this vocabulary; remove it.",
        ),
        ({**PETS, "calibration": {"categories": {"scale": -1, "bias": 0}}}, "scale must be above 0"),
        ({"name": "pets"}, "A vocabulary needs at least one of categories, attributes and tags."),
        ([], "is not a JSON object."),
    ],
)
def test_a_bad_file_aborts_start_up(pets: Path, content: Any, sentence: str) -> None:
    pets.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        create_app(Settings(vocabularies=(pets,)), FakePredictor())
    assert str(pets) in str(raised.value) and sentence in str(raised.value) and "\n" not in str(raised.value)


def test_the_same_name_twice(pets: Path) -> None:
    pets.with_name("second.json").write_text(pets.read_text())
    with pytest.raises(SettingsError, match=r"second.json: its name 'pets' is that of .*pets.json"):
        create_app(Settings(vocabularies=(pets.parent,)), FakePredictor())


WORDS = {"tags": [{"name": "dog", "translations": {"de": "Hund", "zh": "狗"}}, "street"]}


@pytest.mark.parametrize(
    ("field", "header", "language"),
    [
        ({"language": "de-CH"}, "", "de-CH"),
        ({}, "nl, zh-Hans;q=0.9, de;q=0.5", "zh-Hans"),
        ({"language": "de"}, "zh", "de"),
        ({"language": None}, "", None),
        ({"language": "nl"}, "", None),
        ({}, "en-GB, de;q=0.5", "en-GB"),
    ],
)
def test_language_of_the_answer(api: ApiClient, field: dict[str, Any], header: str, language: str | None) -> None:
    document = {"image": {"base64": in_base64(image_bytes())}, **one_region(vocabulary=WORDS, **field)}
    headers = {"accept-language": header}
    response = api.raw(json.dumps(document).encode(), **headers)
    assert response.status_code == 200, response.text
    assert response.headers.get("content-language") == language
    assert response.headers.get("vary") == ("Accept-Language" if language else None)


@pytest.mark.parametrize("language", ["", "de_DE", "*", 5, ["de"], "de\n", "x" * 100])
def test_a_malformed_language(api: ApiClient, language: Any) -> None:
    response = api.json(language=language)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/language"


def test_language_in_the_query_of_an_image(api: ApiClient) -> None:
    url = "/v1/describe?language=de&vocabulary=coco"
    response = api.client.post(url, content=image_bytes(), headers={"content-type": "image/png"})
    assert response.status_code == 200 and response.headers["content-language"] == "de"
