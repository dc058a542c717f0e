"""POST /hf/{task}: each form of a payload, each parameter, and what is refused with which sentence."""

import base64
import io
import json
import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image

from tests.fake_finder import MISSING, FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.api.provoked_problems import service
from tests.service.conftest import HEIGHT, WIDTH, ApiFactory, image_bytes, in_base64
from tests.service.integrations.asked import as_error

TASKS = (
    "object-detection",
    "zero-shot-object-detection",
    "image-segmentation",
    "image-to-text",
    "image-classification",
    "zero-shot-image-classification",
)
LABELS = {"candidate_labels": ["dog", "cat"]}


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    """A service that finds too."""
    return make_api(FakePredictor(finding=FakeFinderSpec()), integrations="hugging-face").client


def post(client: TestClient, task: str, parameters: Any = None, **payload: Any) -> Response:
    """The JSON form."""
    document = {"inputs": in_base64(image_bytes()), **({"parameters": parameters} if parameters else {}), **payload}
    return client.post(f"/hf/{task}", json=document)


def refused(response: Response, status: int = 422) -> str:
    """The sentence of an error."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    return as_error(response.json())


@pytest.mark.parametrize("content_type", ["image/png", "image/x-whatever", "application/octet-stream", None])
def test_a_file_is_taken_whatever_a_client_calls_it(client: TestClient, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = client.post("/hf/object-detection", content=image_bytes(), headers=headers)
    assert [each["box"] for each in answer.json()] == [
        {"xmin": 0, "ymin": 0, "xmax": 16, "ymax": 16},
        {"xmin": 20, "ymin": 10, "xmax": 44, "ymax": 40},
    ]
    assert answer.json() == post(client, "object-detection").json()


def test_json_without_a_content_type_is_json(client: TestClient) -> None:
    body = json.dumps({"inputs": in_base64(image_bytes()), "parameters": {"threshold": 0.85}}).encode()
    for headers in ({}, {"content-type": "application/octet-stream"}):
        assert len(client.post("/hf/object-detection", content=body, headers=headers).json()) == 1


def test_a_threshold_and_the_number_of_objects_are_honoured(client: TestClient) -> None:
    both = post(client, "object-detection").json()
    assert [each["score"] for each in both] == sorted((each["score"] for each in both), reverse=True)
    assert all(each["label"] and each["probability"] for each in both)
    assert post(client, "object-detection", {"threshold": 0.85}).json() == both[:1]
    assert post(client, "object-detection", {"top_k": 1, "threshold": None}).json() == both[:1]


def test_labels_are_names_to_find(client: TestClient) -> None:
    found = post(client, "zero-shot-object-detection", {"candidate_labels": ["dog", MISSING]}).json()
    assert {each["label"] for each in found} == {"dog"}
    by_query = client.post(f"/hf/zero-shot-object-detection?name=dog&name={MISSING}", content=image_bytes())
    assert by_query.json() == found


def test_descriptions_that_the_query_asks_for_stand_beside_the_box(client: TestClient) -> None:
    answer = client.post("/hf/object-detection?describe=caption,tags", content=image_bytes())
    for each in answer.json():
        assert each["caption"]["text"] and each["tags"][0]["name"]
        assert "views" not in each["caption"] and "views" not in each["tags"][0] and "timings_ms" not in each


def test_masks_are_grey_images_of_the_images_size(client: TestClient) -> None:
    found = post(client, "image-segmentation", {"subtask": "instance"}).json()
    assert found
    for each in found:
        mask = Image.open(io.BytesIO(base64.b64decode(each["mask"])))
        assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (WIDTH, HEIGHT))
        pixels = np.asarray(mask)
        assert set(np.unique(pixels)) == {0, 255}
        assert each["label"] and 0 < each["score"] <= 1 and "box" not in each


def test_masks_of_too_many_pixels_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynrefer.service.integrations.hugging_face.answers.MOST_MASK_PIXELS", WIDTH * HEIGHT)
    sentence = refused(post(client, "image-segmentation"))
    assert sentence == f"top_k: 2 masks of {WIDTH * HEIGHT} pixels each are too many; ask for at most 1."
    assert len(post(client, "image-segmentation", {"top_k": 1}).json()) == 1


def test_a_caption_is_of_the_whole_image_or_of_the_querys_regions(client: TestClient) -> None:
    whole = post(client, "image-to-text").json()
    assert whole == client.post("/hf/image-to-text?box=0,0,64,48", content=image_bytes()).json()
    two = client.post("/hf/image-to-text?box=0,0,8,8&box=8,8,40,40", content=image_bytes()).json()
    described = client.post("/v1/describe?box=0,0,8,8&box=8,8,40,40&task=caption", content=image_bytes(), headers=PNG)
    assert two == [{"generated_text": region["caption"]["text"]} for region in described.json()["regions"]]


PNG = {"content-type": "image/png"}


def test_generation_parameters_reach_the_search(make_api: ApiFactory) -> None:
    api = make_api(integrations="hugging-face")
    given = {"max_new_tokens": 5, "generation_parameters": {"num_beams": 3, "do_sample": False, "max_new_tokens": 5}}
    assert post(api.client, "image-to-text", given).status_code == 200
    (query,) = api.predictor.queries
    assert (query.writing.num_beams, query.writing.max_words) == (3, 5)


def test_categories_carry_their_probability(client: TestClient) -> None:
    found = post(client, "image-classification", {"top_k": 2}).json()
    described = client.post("/v1/describe?task=categories&top_k=2", content=image_bytes(), headers=PNG).json()
    categories = described["regions"][0]["categories"]
    assert found == [{"label": each["name"], "score": each["probability"]} for each in categories]
    several = client.post("/hf/image-classification?box=0,0,8,8&box=8,8,40,40&top_k=2", content=image_bytes())
    assert [len(each) for each in several.json()] == [2, 2]


def test_labels_are_the_categories_of_one_image(make_api: ApiFactory) -> None:
    api = make_api(integrations="hugging-face")
    assert post(api.client, "zero-shot-image-classification", LABELS).status_code == 200
    (query,) = api.predictor.queries
    assert query.vocabulary is not None and query.top_k == 2
    assert [word.name for word in query.vocabulary.categories or ()] == LABELS["candidate_labels"]


@pytest.mark.parametrize(
    ("task", "parameters", "sentence"),
    [
        ("object-detection", {"threshold": "high"}, "threshold: A number is expected."),
        ("object-detection", {"threshold": 2}, "threshold: The number is too large: at most 1 is accepted."),
        ("object-detection", {"top_k": 0}, "top_k: The number is too small."),
        (
            "object-detection",
            {"thresold": 0.5},
            "Unknown parameter 'thresold'. The task object-detection takes threshold, top_k.",
        ),
        ("object-detection", [0.5], "parameters: An object with the task's parameters is expected."),
        (
            "zero-shot-object-detection",
            None,
            "The task zero-shot-object-detection needs the parameter 'candidate_labels'.",
        ),
        ("zero-shot-object-detection", {"candidate_labels": "dog"}, "candidate_labels: A list is expected."),
        ("zero-shot-object-detection", {"candidate_labels": ["dog", " "]}, "candidate_labels.1: A name has 1 to 64"),
        (
            "zero-shot-image-classification",
            {"candidate_labels": ["dog", "dog"]},
            "candidate_labels.1: 'dog' stands twice",
        ),
        (
            "zero-shot-image-classification",
            {"candidate_labels": [str(number) for number in range(1_001)]},
            "candidate_labels: At most 1000 labels are accepted.",
        ),
        (
            "zero-shot-image-classification",
            {**LABELS, "hypothesis_template": "a {}"},
            "'hypothesis_template' cannot be honoured: the model has its own way to read labels; leave it out.",
        ),
        (
            "image-segmentation",
            {"mask_threshold": 0.5},
            "'mask_threshold' cannot be honoured: masks come as they are, in black and white; leave it out.",
        ),
        (
            "image-segmentation",
            {"subtask": "semantic"},
            "'subtask' can only be 'instance': each object has a mask of its own.",
        ),
        (
            "image-to-text",
            {"generation_parameters": {"temperature": 0.5}},
            "'temperature' cannot be honoured: captions are found by beam search alone; leave it out.",
        ),
        (
            "image-to-text",
            {"generation_parameters": {"do_sample": 1}},
            "'do_sample' can only be false: captions are found by beam search.",
        ),
        ("image-to-text", {"generation_parameters": [3]}, "generation_parameters: An object is expected."),
        (
            "image-to-text",
            {"max_new_tokens": 4, "generation_parameters": {"max_new_tokens": 5}},
            "'generation_parameters' differs from another parameter that means the same.",
        ),
        ("image-to-text", {"max_new_tokens": "x"}, "max_new_tokens: A whole number is expected."),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: TestClient, task: str, parameters: Any, sentence: str
) -> None:
    assert refused(post(client, task, parameters)).startswith(sentence)


def test_several_flaws_are_a_list(client: TestClient) -> None:
    answer = post(client, "zero-shot-object-detection", {"candidate_labels": ["", "x" * 65], "threshold": 3})
    assert answer.status_code == 422
    assert len(answer.json()["error"]) == 2 and "threshold" in answer.json()["error"][1]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("image-to-text?task=tags", "'task' follows from the path's task; leave it out."),
        ("image-segmentation?masks=true", "'masks' follows from the path's task; leave it out."),
        ("image-to-text?id=a", "'id' has no place in this task's answer; leave it out, or ask /v1/describe."),
        ("image-to-text?explain=true", "'explain' has no place in this task's answer"),
        ("image-to-text?explain.evidence=true", "'explain' has no place in this task's answer"),
        ("image-to-text?boxes=1,2,3,4", "Unknown parameter 'boxes'. Did you mean 'box'?"),
        ("image-to-text?box=9,9,3,3", "regions.0.box: "),
        ("object-detection?threshold=high", "threshold: A number is expected."),
    ],
)
def test_the_querys_flaws_are_told_too(client: TestClient, query: str, sentence: str) -> None:
    assert sentence in refused(client.post(f"/hf/{query}", content=image_bytes()))


def test_a_field_stands_in_one_place(client: TestClient) -> None:
    answer = post(client, "object-detection?threshold=0.5", {"threshold": 0.4})
    assert refused(answer) == "'threshold' stands in the URL and in the payload; give it once."


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"inputs": None}, "'inputs' is one image, in Base64 or as a URL."),
        ({"inputs": ""}, "'inputs' is one image, in Base64 or as a URL."),
        ({"inputs": [in_base64(image_bytes())]}, "'inputs' is one image, in Base64 or as a URL."),
        ({"inputs": "a%b"}, "inputs: This is not standard Base64"),
        ({"inputs": "https://images.example.org/a.png"}, "This server does not fetch images"),
        ({"options": {"wait_for_model": True}}, "Unknown field 'options'; there are 'inputs' and 'parameters'."),
    ],
)
def test_bad_inputs_are_told(client: TestClient, payload: dict[str, Any], sentence: str) -> None:
    assert refused(post(client, "object-detection", **payload)).startswith(sentence)


def test_an_empty_file_and_other_media_are_refused(client: TestClient) -> None:
    assert refused(client.post("/hf/object-detection", headers=PNG)).endswith("it is to be the image's file.")
    form = client.post("/hf/object-detection", files={"image": image_bytes()})
    assert "Content-Type" in refused(form, 415)
    packed = client.post("/hf/object-detection", content=image_bytes(), headers={**PNG, "content-encoding": "gzip"})
    assert "compressed" in refused(packed, 415)
    no_image = client.post("/hf/object-detection", content=b"text", headers=PNG)
    assert "formats" in refused(no_image, 415)


@pytest.mark.parametrize("task", ["visual-question-answering", "document-question-answering"])
def test_questions_are_not_answered(client: TestClient, task: str) -> None:
    sentence = refused(client.post(f"/hf/{task}", json={"inputs": "", "question": "What?"}), 404)
    assert sentence == f"This service describes regions and answers no questions; it does {', '.join(TASKS)}."


def test_an_unknown_task_is_told_what_there_is(client: TestClient) -> None:
    assert refused(client.post("/hf/depth-estimation"), 404).endswith(f"this service does {', '.join(TASKS)}.")
    assert refused(client.get("/hf/depth-estimation/health"), 404)


def test_an_image_of_some_megabytes_fits_into_inputs(client: TestClient) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2_000_000
    answer = client.post("/hf/object-detection", json={"inputs": in_base64(buffer.getvalue())})
    assert answer.status_code == 200


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_health_and_information(client: TestClient, task: str) -> None:
    assert client.get(f"/hf/{task}/health").status_code == 200
    assert client.get(f"/hf/{task}/info").json()["model_pipeline_tag"] == task


def test_a_service_that_is_not_ready_says_when_to_come_again() -> None:
    with service(ready=False, integrations="hugging-face") as (client, _):
        for answer in (client.post("/hf/image-to-text", content=image_bytes()), client.get("/hf/image-to-text/health")):
            assert refused(answer, 503).startswith("The service is ")
            assert int(answer.headers["retry-after"]) >= 1


def test_a_deadline_is_told(make_api: ApiFactory) -> None:
    api = make_api(integrations="hugging-face")
    api.predictor.run_hook = lambda _: time.sleep(0.3)
    late = api.client.post("/hf/image-to-text", content=image_bytes(), headers={"x-request-timeout": "0.05"})
    assert refused(late, 504) == "The answer was not ready within 0.05 seconds."
