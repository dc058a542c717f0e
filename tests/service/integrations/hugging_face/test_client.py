"""Against `huggingface_hub` itself and the embedded model: every method of the client that there is a task for."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from tests.docs.examples import ADDRESS, examples_of
from tests.repository import ROOT
from tests.service.server.test_process import Server, running

pytestmark = [pytest.mark.server, pytest.mark.system]

PHOTOGRAPHS = ROOT / "benchmarks" / "photographs"
DOGS, TOURIST, CAT = (PHOTOGRAPHS / name for name in ("two-dogs.jpg", "tourist.jpg", "cat.jpg"))
KEY = "sesame"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A service with the embedded model and a key."""
    with running("dynrefer.service.cli", "serve", "--integrations", "hugging-face", DYNREFER_API_KEYS=KEY) as server:
        server.await_ready()
        yield server


def client_of(server: Server, task: str, token: str | None = KEY) -> InferenceClient:
    """The client of a task, by its URL."""
    return InferenceClient(model=f"{server.address}/hf/{task}", token=token)


def test_objects_are_found(server: Server) -> None:
    client = client_of(server, "object-detection")
    found = client.object_detection(DOGS)
    assert found[0].label == "dog" and 0.3 < found[0].score <= 1
    with Image.open(DOGS) as image:
        width, height = image.size
    for each in found:
        box = each.box
        assert 0 <= box.xmin < box.xmax <= width and 0 <= box.ymin < box.ymax <= height
    least = found[0].score - 0.01
    assert client.object_detection(DOGS, threshold=least) == [each for each in found if each.score >= least]


def test_an_image_comes_as_a_file_its_path_or_its_bytes(server: Server) -> None:
    client = client_of(server, "object-detection")
    forms = (DOGS, str(DOGS), DOGS.read_bytes())
    first, *others = ([each.label for each in client.object_detection(form)] for form in forms)
    assert first and all(other == first for other in others)


def test_names_of_the_query_are_found_and_described(server: Server) -> None:
    client = client_of(server, "zero-shot-object-detection?name=dog&name=giraffe&describe=caption")
    found = client.object_detection(DOGS)
    assert found and {each.label for each in found} == {"dog"}
    assert all("dog" in each["caption"]["text"] for each in found)  # a member that the client's schema does not know


def test_the_client_sends_labels_as_a_payload_of_zero_shot_detection(server: Server) -> None:
    # The client has no method for the task, but for its payload's form: that of any binary task with parameters.
    from huggingface_hub.inference._providers.hf_inference import HFInferenceBinaryInputTask

    client = client_of(server, "zero-shot-object-detection")
    request = HFInferenceBinaryInputTask("zero-shot-object-detection").prepare_request(
        inputs=DOGS, parameters={"candidate_labels": ["dog"]}, headers={}, model=client.model, api_key=KEY
    )
    assert b'"label":"dog"' in client._inner_post(request).replace(b": ", b":")


def test_an_image_and_a_region_are_captioned(server: Server) -> None:
    assert "dog" in (client_of(server, "image-to-text").image_to_text(DOGS).generated_text)
    phone = client_of(server, "image-to-text?box=308,190,401,258").image_to_text(TOURIST)
    assert "phone" in phone.generated_text


def test_labels_are_told_apart(server: Server) -> None:
    labels = ["dog", "cat", "typewriter"]
    found = client_of(server, "zero-shot-image-classification").zero_shot_image_classification(CAT, labels)
    assert {each.label for each in found} == set(labels)
    assert found[0].label == "cat" and found[0].score > 0.9
    assert sum(each.score for each in found) <= 1.001
    best = client_of(server, "image-classification").image_classification(CAT, top_k=2)
    assert best[0].label == "cat" and len(best) == 2


def test_masks_are_images(server: Server) -> None:
    found = client_of(server, "image-segmentation").image_segmentation(DOGS, threshold=0.3, subtask="instance")
    with Image.open(DOGS) as image:
        size = image.size
    boxes = client_of(server, "object-detection").object_detection(DOGS, threshold=0.3)
    assert len(found) == len(boxes)
    for each, box in zip(found, boxes, strict=True):
        mask: Image.Image = each.mask  # type: ignore[assignment]  # the client opens the PNG
        assert (mask.mode, mask.size, each.label) == ("L", size, box.label)
        inside = np.asarray(mask.crop((box.box.xmin, box.box.ymin, box.box.xmax, box.box.ymax))) > 0
        assert inside.mean() > 0.2 and inside.sum() >= 0.9 * (np.asarray(mask) > 0).sum()


def test_an_image_of_some_megabytes_passes_with_parameters(server: Server) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1_000, 1_000, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    client = client_of(server, "object-detection")
    assert isinstance(client.object_detection(file.getvalue(), threshold=0.9), list)


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # how the client itself calls httpx2
def test_the_asynchronous_client_gets_the_same(server: Server) -> None:
    async def found() -> list[str]:
        client = AsyncInferenceClient(model=f"{server.address}/hf/object-detection", token=KEY)
        return [each.label for each in await client.object_detection(DOGS)]

    expected = client_of(server, "object-detection").object_detection(DOGS)
    assert asyncio.run(found()) == [each.label for each in expected]


def test_health_and_information_of_an_endpoint(server: Server) -> None:
    url = f"{server.address}/hf/image-to-text"
    endpoint = InferenceClient(provider="hf-inference", base_url=url, api_key=KEY)
    assert endpoint.health_check()
    assert endpoint.get_endpoint_info()["model_id"] == "dynrefer-embedded"
    assert not InferenceClient(provider="hf-inference", model=url, token="wrong").health_check()


@pytest.mark.parametrize(
    ("task", "ask", "status", "sentence"),
    [
        (
            "object-detection",
            lambda client: client.object_detection(DOGS, threshold=7),
            422,
            "threshold: The number is",
        ),
        (
            "image-segmentation",
            lambda client: client.image_segmentation(DOGS, mask_threshold=0.3),
            422,
            "mask_threshold",
        ),
        (
            "zero-shot-image-classification",
            lambda client: client.zero_shot_image_classification(CAT, ["a", "b"], hypothesis_template="{}"),
            422,
            "'hypothesis_template' cannot be honoured",
        ),
        ("object-detection", lambda client: client.object_detection(b"no image"), 415, "accepted formats"),
        (
            "visual-question-answering",
            lambda client: client.visual_question_answering(CAT, "What is it?"),
            404,
            "answers no questions",
        ),
    ],
)
def test_the_clients_errors_hold_the_sentence_and_the_request_id(
    server: Server, task: str, ask: object, status: int, sentence: str
) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        ask(client_of(server, task))  # type: ignore[operator]
    assert caught.value.response.status_code == status
    assert sentence in str(caught.value) and sentence in (caught.value.server_message or "")
    assert caught.value.response.headers["x-request-id"] in str(caught.value)


@pytest.mark.parametrize("token", ["wrong", None])
def test_the_token_is_a_key(server: Server, token: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(HfHubHTTPError) as caught:
        client_of(server, "object-detection", token).object_detection(DOGS)
    assert caught.value.response.status_code == 401 and caught.value.server_message


def test_the_pages_snippet_prints_what_it_shows(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = (each for each in examples_of(ROOT / "docs/integrations/hugging-face.md") if each.kind == "python")
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.chdir(ROOT)
    exec(compile(example.text.replace(ADDRESS, server.address), str(example), "exec"), {})
    assert capsys.readouterr().out == example.answer
