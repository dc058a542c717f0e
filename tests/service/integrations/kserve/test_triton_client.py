"""Against Triton's client, in an environment of its own, and the embedded model."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import examples_of
from tests.repository import ROOT
from tests.service.integrations.environments import python_with
from tests.service.server.test_process import Server, running

pytestmark = [pytest.mark.server, pytest.mark.system]

PHOTOGRAPHS = ROOT / "benchmarks" / "photographs"
KEY = "sesame"


# Of the client: a user's name, any, and the key as the password.
SIGN_IN = f"""
from tritonclient.http.auth import BasicAuth
client.register_plugin(BasicAuth("anyone", "{KEY}"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service with the embedded model and a key."""
    with running("dynrefer.service.cli", "serve", "--integrations", "kserve", DYNREFER_API_KEYS=KEY) as server:
        server.await_ready()
        yield server


def said(*arguments: str) -> str:
    """What the client's interpreter prints."""
    command = [str(python_with("kserve")), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def printed(server: Server) -> dict[str, Any]:
    """What the client got (`triton_client.py`)."""
    images = [str(PHOTOGRAPHS / name) for name in ("two-dogs.jpg", "cat.jpg")]
    script = str(Path(__file__).with_name("triton_client.py"))
    found: dict[str, Any] = json.loads(said(script, server.address.removeprefix("http://"), KEY, *images))
    return found


def captions(answers: list[Any]) -> list[str]:
    """Of the first region of each."""
    return [answer["regions"][0]["caption"]["text"] for answer in answers]


def test_health_and_models_are_read(printed: dict[str, Any]) -> None:
    assert printed["live"] and printed["ready"]
    assert printed["model_ready"] == [True, True, False]
    assert printed["server"]["extensions"] == ["binary_tensor_data"]
    assert [each["datatype"] for each in printed["metadata"]["inputs"]] == ["BYTES", "BYTES"]


def test_every_form_of_a_tensor_gives_the_same_answer(printed: dict[str, Any]) -> None:
    first = captions(printed["binary"])
    assert "dog" in first[0]
    assert all(captions(printed[form]) == first for form in ("json", "mixed", "async", "aio"))
    assert printed["version"][0]["name"] == "answer"


def test_several_images_come_back_in_order_and_shape(printed: dict[str, Any]) -> None:
    first, second = captions(printed["several"])
    assert "dog" in first and "cat" in second
    assert printed["several_shape"] == [2, 1]


def test_regions_are_found(printed: dict[str, Any]) -> None:
    (answer,) = printed["found"]
    assert {region["label"] for region in answer["regions"]} == {"dog"}
    assert [each["name"] for each in answer["absent"]] == ["giraffe"]


@pytest.mark.parametrize(
    ("kind", "status", "sentence"),
    [
        ("field", "422", "Unknown field 'taks'. Did you mean 'task'?"),
        ("image", "415", "accepted formats"),
        ("model", "404", "There is no model 'bert'; there are 'describe' and 'detect'."),
        ("key", "401", ""),
        ("timeout", "422", "X-Request-Timeout"),
        ("compressed", "415", "send it without Content-Encoding"),
    ],
)
def test_the_clients_exception_holds_the_sentence(
    printed: dict[str, Any], kind: str, status: str, sentence: str
) -> None:
    assert printed["errors"][kind][0] == status and sentence in printed["errors"][kind][1]


def test_the_pages_snippet_prints_what_it_shows(server: Server) -> None:
    (example,) = (each for each in examples_of(ROOT / "docs/integrations/kserve.md") if each.kind == "python")
    code = example.text.replace("127.0.0.1:8000", server.address.removeprefix("http://"))
    assert said("-c", code.replace("\nresult = ", f"{SIGN_IN}result = ")) == example.answer
