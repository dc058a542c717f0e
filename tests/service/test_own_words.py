"""A request's own words, over HTTP with the embedded model: answers in them, unknown ones named, each text once."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.repository import DOCS
from tests.service.conftest import in_base64
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

CAT = {"image": {"base64": in_base64((DOCS / "chelsea.jpg").read_bytes())}, "regions": [{"box": [90, 40, 300, 250]}]}
SCENE = {"image": {"base64": in_base64((DOCS / "scene.png").read_bytes())}, "regions": [{"box": [41, 2, 117, 82]}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A real process, for all tests of this file."""
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as server:
        server.await_ready()
        yield server
        assert server.end() == 0


def answer(server: Server, request: dict[str, Any], **fields: Any) -> dict[str, Any]:
    status, found = server.describe({**request, **fields})
    assert status == 200, found
    return found


def names(found: dict[str, Any], task: str) -> list[str]:
    return [each["name"] for each in found["regions"][0][task]]


def test_a_photograph_is_asked_in_the_clients_words(server: Server) -> None:
    asked = {"categories": ["Dog", {"name": "Pussycat", "synonyms": ["cat"]}, "car"], "tags": ["cat", "bus"]}
    found = answer(server, CAT, vocabulary=asked)
    assert names(found, "categories")[0] == "Pussycat"
    assert found["regions"][0]["categories"][0]["probability"] > 0.5
    assert all(each["probability"] < 0.1 for each in found["regions"][0]["categories"][1:])
    assert names(found, "tags") == ["cat"]
    caption = found["regions"][0]["caption"]
    assert caption["name"] == "Pussycat" and "Pussycat" in caption["text"] and caption["probability"] > 0.5
    assert "unknown_words" not in found


def test_what_is_none_of_the_words_is_none_of_them(server: Server) -> None:
    found = answer(server, CAT, vocabulary={"categories": ["dog", "car"]})
    assert all(each["probability"] < 0.1 for each in found["regions"][0]["categories"])
    assert found["regions"][0]["caption"]["name"] == "cat"  # none of them is likely enough to be said


def test_words_that_no_list_holds_are_placed_among_those_that_do(server: Server) -> None:
    """A broader, a narrower and a related word of a cat; words of other things; a word of nothing."""
    asked = ["carnivore", "siamese cat", "mongoose", "sneaker", "furniture", "tambourine", "blorf"]
    found = answer(server, CAT, vocabulary={"categories": asked}, task=["categories", "caption"], explain=True)
    found_by = {each["name"]: each["probability"] for each in found["regions"][0]["categories"]}
    assert found_by["carnivore"] > 0.9 and found["regions"][0]["caption"]["name"] == "carnivore"
    assert found_by["siamese cat"] < 0.5 and found_by["mongoose"] < 0.5
    assert all(found_by[other] < 0.05 for other in ("sneaker", "furniture", "tambourine"))
    assert [each["name"] for each in found["unknown_words"]] == ["blorf"]
    labels = {each["name"]: each for each in found["regions"][0]["explanation"]["labels"]["categories"]}
    assert labels["carnivore"]["senses"][0]["sense"].startswith("carnivore.")


def test_unknown_words_are_named_and_not_guessed(server: Server) -> None:
    asked = {
        "categories": ["cat", "blorf"],
        "attributes": ["color:red/crimson", "mood:blorfy"],
        "tags": ["grasss", "grass"],
    }
    for request in (CAT, SCENE):
        found = answer(server, request, vocabulary=asked, thresholds={"tags": 0.0})
        unknown = {each["name"]: each["nearest"] for each in found["unknown_words"]}
        assert set(unknown) == {"blorf", "mood:blorfy", "grasss"}
        assert names(found, "categories") == ["cat"] and names(found, "attributes") == ["color:red"]
        assert names(found, "tags") == ["grass"]
    both = answer(server, {**CAT, "regions": CAT["regions"] * 2}, vocabulary=asked, task="categories")
    assert len(both["unknown_words"]) == 3


def test_attributes_of_a_drawing(server: Server) -> None:
    asked = {"attributes": ["colour:red/crimson", "colour:blue", "look:dotted"]}
    found = answer(server, SCENE, vocabulary=asked, task="attributes")
    first, second, third = found["regions"][0]["attributes"]
    assert {first["name"], second["name"]} == {"colour:red", "look:dotted"} and third["name"] == "colour:blue"
    assert min(first["probability"], second["probability"]) > 0.9 > 0.1 > third["probability"]
    assert (first["type"], first["value"]) == tuple(first["name"].split(":"))


def test_lists_that_are_not_given_stay_as_they_are(server: Server) -> None:
    own, found = answer(server, SCENE), answer(server, SCENE, vocabulary={"tags": ["snowman"]})
    for task in ("attributes", "categories", "caption"):
        assert own["regions"][0][task] == found["regions"][0][task]


def test_the_query_of_an_image_alone(server: Server) -> None:
    import urllib.request

    address = f"{server.address}/v1/describe?task=categories&vocabulary.categories=cat,dog&box=90,40,300,250"
    body = (DOCS / "chelsea.jpg").read_bytes()
    with urllib.request.urlopen(urllib.request.Request(address, body, {"content-type": "image/jpeg"})) as response:
        assert names(json.load(response), "categories") == ["cat", "dog"]


def test_clients_with_the_same_words_share_their_embeddings(server: Server) -> None:
    def misses() -> int:
        text = server.get("/metrics")[1].decode()
        found = re.search(r"^dynrefer_text_cache_misses_total (\S+)", text, re.MULTILINE)
        assert found is not None and "dynrefer_vocabulary_cache_hits_total" in text
        return int(float(found.group(1)))

    before = misses()
    asked = {"attributes": ["shade:dark", "shade:bright"]}
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda _: answer(server, SCENE, vocabulary=asked, task="attributes"), range(16)))
    assert all(each["regions"][0]["attributes"] == found[0]["regions"][0]["attributes"] for each in found)
    assert misses() - before == 4  # two prompts for each of the words


def test_limits_are_shown(server: Server) -> None:
    (card,) = json.loads(server.get("/v1/models")[1])["models"]
    assert (card["limits"]["max_vocabulary_words"], card["limits"]["max_vocabulary_chars"]) == (2000, 64)
