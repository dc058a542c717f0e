"""OpenAI's own client against a service with the embedded model: `asks.py` calls it, in an environment of its own."""

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.docs.examples import ADDRESS, examples_of
from tests.repository import ROOT
from tests.service.api.example_requests import GLASS, PIG, sample_bytes
from tests.service.integrations.environments import python_with
from tests.service.server.test_process import Server, running

pytestmark = [pytest.mark.server, pytest.mark.system]

Json = dict[str, Any]

ASKS = Path(__file__).with_name("asks.py")
PAGE = ROOT / "docs" / "integrations" / "openai.md"
PATIENCE_S = 300


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service with the embedded model and a key."""
    with running("dynrefer.service.cli", "serve", "--integrations", "openai", DYNREFER_API_KEYS="sesame") as server:
        server.await_ready()
        yield server


@pytest.fixture(scope="module")
def found(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What the client got."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "scene.webp").write_bytes(sample_bytes())
    with Image.open(io.BytesIO(sample_bytes())) as scene:
        masked, alpha = scene.convert("RGBA"), Image.new("L", scene.size, 0)
    alpha.paste(255, tuple(PIG))
    masked.putalpha(alpha)
    masked.save(folder / "masked.png")
    command = [str(python_with("openai")), str(ASKS), server.address, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    answers: Json = json.loads(done.stdout)
    return answers


def test_the_page_of_the_documentation_prints_what_it_shows(server: Server) -> None:
    (example,) = [each for each in examples_of(PAGE) if each.kind == "python"]
    code = example.text.replace(ADDRESS, server.address).replace("any, where the service has no keys", "sesame")
    command = [str(python_with("openai")), "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == example.answer, done.stderr


def captions(answer: Json) -> list[str]:
    """Of the typed records beside the text."""
    return [region["caption"]["text"] for region in answer["regions"]]


def boxes(answer: Json) -> list[list[float]]:
    """Of the typed records."""
    return [region["box"] for region in answer["regions"]]


def test_boxes_of_the_text_are_described_in_their_order(found: Json) -> None:
    answer = found["text"]
    assert boxes(answer) == [PIG, GLASS]
    assert answer["texts"] == ["\n".join(captions(answer))]
    assert "pig" in captions(answer)[0] and "glass" in captions(answer)[1]
    assert (answer["reasons"], answer["roles"]) == (["stop"], ["assistant"])
    assert answer["object"] == "chat.completion" and answer["model"] == "dynrefer-embedded"


def test_regions_of_the_field_give_the_same(found: Json) -> None:
    assert found["field"]["texts"] == found["text"]["texts"]
    first, second = found["field"]["regions"]
    assert (first["id"], second["id"]) == ("pig", "1")
    assert len(first["attributes"]) == len(first["categories"]) == 2
    assert first["categories"][0]["name"] == "pig"


def test_coordinates_may_be_per_mille(found: Json) -> None:
    (box,) = boxes(found["per mille"])
    assert box == pytest.approx(PIG, abs=0.5)
    assert "pig" in found["per mille"]["texts"][0]


def test_without_a_region_it_is_the_whole_image(found: Json) -> None:
    assert boxes(found["whole"]) == [[0, 0, 221, 231]]


def test_the_client_of_dams_server_marks_the_region_by_the_alpha_channel(found: Json) -> None:
    (box,) = boxes(found["alpha"])
    assert box == pytest.approx(PIG, abs=1)
    assert "pig" in found["alpha"]["texts"][0]


def test_n_are_different_captions_of_one_region(found: Json) -> None:
    best, second = found["several"]["texts"]
    candidates = found["several"]["regions"][0]["caption"]["candidates"]
    assert [best, second] == [each["text"] for each in candidates] and best != second


def test_tokens_are_counted(found: Json) -> None:
    one, two = found["several"]["usage"], found["text"]["usage"]
    for usage in (one, two):
        assert usage["prompt_tokens"] == 0 and usage["total_tokens"] == usage["completion_tokens"]
    words = sum(len(text.split()) for text in found["several"]["texts"])
    assert words < one["completion_tokens"] < 3 * words  # each has an end token besides


def test_a_stream_has_a_piece_per_region(found: Json) -> None:
    *chunks, usage = found["streamed"]
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert "".join(piece or "" for piece in pieces) == found["text"]["texts"][0]
    assert len(pieces) == 4 and pieces[1] == captions(found["text"])[0]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert boxes(chunks[-1]) == [PIG, GLASS]
    assert usage["choices"] == [] and usage["usage"]["total_tokens"] == found["text"]["usage"]["total_tokens"]


def test_the_client_puts_a_stream_together(found: Json) -> None:
    assert found["gathered"]["texts"] == found["text"]["texts"]
    assert found["gathered"]["kinds"].count("content.delta") >= 2 and found["gathered"]["kinds"][-1] == "content.done"
    assert found["gathered several"]["texts"] == found["several"]["texts"]


def test_the_async_client_gets_the_same(found: Json) -> None:
    whole, streamed = found["async"]["whole"], found["async"]["streamed"]
    assert whole["texts"] == [streamed] == [captions(found["text"])[0]]


def test_the_clients_request_id_is_the_services(found: Json) -> None:
    assert found["raw"]["request_id"] == "my-own" and found["raw"]["parsed"]["id"] == "chatcmpl-my-own"
    assert found["text"]["request_id"] == found["text"]["id"].removeprefix("chatcmpl-")


def test_models_are_listed_and_retrieved(found: Json) -> None:
    (entry,) = found["models"]["data"]
    assert found["models"]["object"] == "list" and found["model"] == entry
    assert (entry["id"], entry["object"], entry["owned_by"]) == ("dynrefer-embedded", "model", "dynrefer")
    assert entry["created"] > 1_700_000_000


REFUSED = {
    "question": ("BadRequestError", 400, "messages[0].content[1].text", "What colour is the pig's hat"),
    "no image": ("BadRequestError", 400, "messages[0].content", "does not chat: add the image"),
    "outside": ("BadRequestError", 400, "messages[0].content[1].text", "Box 2 of 2: The box (900, 1, 950, 9)"),
    "schema": ("BadRequestError", 400, "response_format", "the typed records stand beside it"),
    "tokens": ("BadRequestError", 400, "max_completion_tokens", "have up to 28 tokens"),
    "streamed": ("BadRequestError", 400, "messages[0].content[1].text", "Tell me a joke"),
    "model": ("NotFoundError", 404, "model", "The model 'gpt-5' is not loaded"),
    "retrieved": ("NotFoundError", 404, "model", "'dynrefer-embedded' is"),
    "key of a chat": ("AuthenticationError", 401, None, "Send a valid key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_client_raises_its_own_errors_with_our_sentences(found: Json, name: str) -> None:
    kind, status, param, words = REFUSED[name]
    error = found["refused"][name]
    assert (error["kind"], error["status_code"], error["param"]) == (kind, status, param)
    assert words in error["message"] and error["type"] == "invalid_request_error"
    assert error["request_id"].startswith("req_")
    assert error["code"] == {404: "model_not_found", 401: "invalid_api_key"}.get(status)


def test_the_list_of_models_needs_a_key_too(found: Json) -> None:
    # It belongs to the service's own contract, errors included: the client knows the status.
    assert found["refused"]["key"]["kind"] == "AuthenticationError"
