"""Against Triton's client, in an environment of its own, and the embedded model."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.repository import ROOT
from tests.service.integrations.environments import python_with
from tests.service.server.test_process import running

pytestmark = [pytest.mark.server, pytest.mark.system]

PHOTOGRAPHS = ROOT / "benchmarks" / "photographs"
KEY = "sesame"


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """What the client got (`triton_client.py`)."""
    python = python_with("kserve")
    images = [str(PHOTOGRAPHS / name) for name in ("two-dogs.jpg", "cat.jpg")]
    with running("dynrefer.service.cli", "serve", "--integrations", "kserve", DYNREFER_API_KEYS=KEY) as server:
        server.await_ready()
        address = server.address.removeprefix("http://")
        script = str(Path(__file__).with_name("triton_client.py"))
        command = [str(python), script, address, KEY, *images]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
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
    assert all(captions(printed[form]) == first for form in ("json", "mixed", "async"))
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
