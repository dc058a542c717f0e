"""The routes below /v2: both forms of a tensor, several images, and what is refused with which sentence."""

import json
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from tests.fake_finder import FakeFinderSpec
from tests.fakes import CARD, FakePredictor
from tests.service.api.provoked_problems import service
from tests.service.conftest import ApiFactory, image_bytes, in_base64, one_region
from tests.service.integrations.asked import as_error

DESCRIBE, DETECT = "/v2/models/describe", "/v2/models/detect"
HEADER = "inference-header-content-length"
ANSWER = {"name": "answer", "shape": [1], "datatype": "BYTES"}


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    """A service that finds too."""
    return make_api(FakePredictor(finding=FakeFinderSpec()), integrations="kserve").client


def images(*files: bytes, shape: Sequence[int] | None = None, **more: Any) -> dict[str, Any]:
    """The tensor of images, in JSON."""
    data = [in_base64(file) for file in files]
    return {"name": "image", "shape": shape or [len(files)], "datatype": "BYTES", "data": data, **more}


def asked(document: Any, **more: Any) -> dict[str, Any]:
    """The tensor of a request, in JSON."""
    return {"name": "request", "shape": [1], "datatype": "BYTES", "data": [json.dumps(document)], **more}


def infer(client: TestClient, *inputs: Any, model: str = DESCRIBE, **more: Any) -> Response:
    """The JSON form."""
    return client.post(f"{model}/infer", json={"inputs": list(inputs), **more})


def packed(*elements: bytes) -> bytes:
    """A tensor's bytes."""
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def infer_binary(
    client: TestClient, tensors: Mapping[str, bytes], tail: bytes = b"", header: str | None = None, **more: Any
) -> Response:
    """The form with binary tensors of one element each."""
    inputs = [
        {"name": name, "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        for name, data in tensors.items()
    ]
    text = json.dumps({"inputs": inputs, **more}).encode()
    headers = {HEADER: header or str(len(text)), "content-type": "application/octet-stream"}
    return client.post(f"{DESCRIBE}/infer", content=text + b"".join(tensors.values()) + tail, headers=headers)


def answers(response: Response) -> list[Any]:
    """The elements of the output, in JSON."""
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    return [json.loads(each) for each in output["data"]]


def refused(response: Response, status: int = 422) -> str:
    """The sentence of an error."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    return as_error(response.json())


def plain(answer: Any) -> Any:
    """An answer without what differs from one request to the next."""
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items() if key not in ("id", "timings_ms")}
    return [plain(each) for each in answer] if isinstance(answer, list) else answer


def described(client: TestClient, **fields: Any) -> Any:
    """The service's own answer."""
    document = {"image": {"base64": in_base64(image_bytes())}, **one_region(), **fields}
    return plain(client.post("/v1/describe", json=document).json())


def test_a_request_in_json_is_answered_in_json(client: TestClient) -> None:
    response = infer(client, images(image_bytes()), asked(one_region(task="tags")), id="mine")
    assert response.json()["id"] == "mine"
    assert (response.json()["model_name"], response.json()["model_version"]) == ("describe", CARD.revision)
    assert {key: value for key, value in response.json()["outputs"][0].items() if key != "data"} == ANSWER
    (answer,) = answers(response)
    assert answer["id"] == response.headers["x-request-id"]
    assert plain(answer) == described(client, task="tags")


def test_a_request_in_bytes_is_answered_in_bytes(client: TestClient) -> None:
    tensors = {"request": packed(json.dumps(one_region()).encode()), "image": packed(image_bytes())}
    response = infer_binary(client, tensors, parameters={"binary_data_output": True})
    assert response.headers["content-type"] == "application/octet-stream"
    end = int(response.headers[HEADER])
    document, tensor = json.loads(response.content[:end]), response.content[end:]
    assert document["outputs"] == [{**ANSWER, "parameters": {"binary_data_size": len(tensor)}}]
    assert struct.unpack("<I", tensor[:4])[0] == len(tensor) - 4
    assert plain(json.loads(tensor[4:])) == described(client)


@pytest.mark.parametrize("binary", [True, False])
def test_the_form_of_the_output_is_asked_for(client: TestClient, binary: bool) -> None:
    for outputs, parameters in (
        ([{"name": "answer", "parameters": {"binary_data": binary}}], {"binary_data_output": not binary}),
        ([], {"binary_data_output": binary}),
        ([{"name": "answer"}], {"binary_data_output": binary}),
    ):
        response = infer(client, images(image_bytes()), outputs=outputs, parameters=parameters)
        assert response.status_code == 200 and (HEADER in response.headers) is binary


def test_without_a_request_the_whole_image_is_described(client: TestClient) -> None:
    (answer,) = answers(infer(client, images(image_bytes())))
    assert [region["box"] for region in answer["regions"]] == [[0, 0, 64, 48]]
    (short,) = answers(infer(client, images(image_bytes()), asked({"task": "caption"})))
    assert set(short["regions"][0]) >= {"caption"} and "tags" not in short["regions"][0]


@pytest.mark.parametrize("shape", [[1], [1, 1], [1, 1, 1]])
def test_an_answer_has_the_shape_of_the_images(client: TestClient, shape: list[int]) -> None:
    given = images(image_bytes(), shape=shape)
    nested = {**given, "data": [given["data"]]}
    for tensor in (given, nested):
        assert infer(client, tensor).json()["outputs"][0]["shape"] == shape


def test_several_images_are_answered_in_order(client: TestClient) -> None:
    response = infer(client, images(image_bytes(), b"no image", image_bytes("JPEG"), shape=[3]))
    assert response.json()["outputs"][0]["shape"] == [3]
    first, failed, last = answers(response)
    assert failed["error"]["status"] == 415 and "regions" not in failed
    assert plain(first) == plain(answers(infer(client, images(image_bytes())))[0])
    assert last["regions"] and {each["id"] for each in (first, failed, last)} == {response.headers["x-request-id"]}


def test_several_images_have_regions_of_their_own(client: TestClient) -> None:
    items = [one_region(), {"regions": [{"box": [0, 0, 8, 8]}, {"box": [8, 8, 16, 16]}]}]
    first, last = answers(infer(client, images(image_bytes(), image_bytes()), asked({"images": items, "task": "tags"})))
    assert (len(first["regions"]), len(last["regions"])) == (1, 2)
    assert plain(first) == described(client, task="tags")


def test_regions_are_found(client: TestClient) -> None:
    document = {"names": ["dog"], "masks": True}
    (answer,) = answers(infer(client, images(image_bytes()), asked(document), model=DETECT))
    expected = client.post("/v1/detect", json={"image": {"base64": in_base64(image_bytes())}, **document}).json()
    assert plain(answer) == plain(expected)
    assert answers(infer(client, images(image_bytes()), model=DETECT))[0]["regions"]
    assert "one image at a time" in refused(infer(client, images(image_bytes(), image_bytes()), model=DETECT))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([], "inputs: A list with the tensors"),
        ([asked({})], "inputs: The tensor 'image' is missing."),
        (["image"], "inputs.0: A tensor is an object with name, shape and datatype."),
        ([images(image_bytes(), name="picture")], "inputs.0.name: The inputs are 'image' and 'request'."),
        ([images(image_bytes(), datatype="UINT8")], "inputs.0.datatype: The datatype is BYTES"),
        ([images(image_bytes(), dtype="BYTES")], "inputs.0: Unknown field 'dtype'"),
        ([images(image_bytes()), images(image_bytes())], "inputs.1.name: The tensor 'image' is given twice."),
        ([images(image_bytes(), shape=[0])], "A shape is a list of whole numbers from 1"),
        ([images(image_bytes(), shape=[True])], "A shape is a list of whole numbers from 1"),
        ([images(image_bytes(), shape=[1] * 9)], "A shape is a list of whole numbers from 1"),
        ([images(image_bytes(), shape=[-1])], "A shape is a list of whole numbers from 1"),
        ([images(image_bytes(), shape=[10**9, 10**9])], "inputs.0.shape: At most 16 elements are accepted."),
        ([images(image_bytes(), shape=[2])], "inputs.0.data: 'data' is a list of as many texts"),
        ([images(image_bytes(), data=in_base64(image_bytes()))], "inputs.0.data: 'data' is a list"),
        ([images(image_bytes(), data=[1])], "'data' is a list of as many texts"),
        ([images(image_bytes(), data=["a%b"])], "inputs.0.data: This is not standard Base64"),
        ([images(image_bytes(), data=[""])], "image: The image is empty."),
        ([images(image_bytes(), parameters={"content_type": "str"})], "Only an image has one, and it is 'base64'."),
        ([images(image_bytes(), parameters={"shared_memory_region": "a"})], "cannot be honoured: send the bytes"),
        ([images(image_bytes(), parameters={"binary_data_size": 1})], "Give either 'data' or 'binary_data_size'"),
        ([images(image_bytes()), asked({}, shape=[2])], "inputs.1.shape: At most one element is accepted."),
        ([images(image_bytes()), asked([])], "An object is expected."),
        ([images(image_bytes()), asked(None, data=["{"])], "The tensor 'request' is not valid JSON"),
        ([images(image_bytes()), asked({"image": {"url": "x"}})], "The image is the tensor 'image'"),
        ([images(image_bytes()), asked({"images": [one_region()]})], "'images' is for several images"),
        ([images(image_bytes()), asked({"regions": [{"box": [9, 9, 3, 3]}]})], "regions.0.box: "),
        ([images(image_bytes()), asked({"coordinates": "unit"})], "regions: This field is required."),
        ([images(image_bytes()), asked({"taks": "tags"})], "Unknown field 'taks'"),
        ([images(image_bytes(), image_bytes()), asked(one_region())], "say in 'images' what the regions of each are."),
    ],
)
def test_bad_tensors_are_told(client: TestClient, inputs: list[Any], sentence: str) -> None:
    assert sentence in refused(infer(client, *inputs))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"id": 3}, "id: A text of at most"),
        ({"id": "x" * 1_000}, "id: A text of at most"),
        ({"paramaters": {}}, "Unknown field 'paramaters'"),
        ({"parameters": [1]}, "parameters: An object is expected."),
        ({"parameters": {"timeout": 5}}, "'timeout' cannot be honoured: the header X-Request-Timeout"),
        ({"parameters": {"sequence_id": 5}}, "'sequence_id' cannot be honoured: requests are independent."),
        ({"parameters": {"temperature": 5}}, "The parameter 'temperature' cannot be honoured."),
        ({"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output: true or false is expected."),
        ({"outputs": [{"name": "boxes"}]}, "outputs.0.name: There is one output, 'answer'."),
        ({"outputs": [{"name": "answer"}, {"name": "answer"}]}, "outputs: There is one output, 'answer'."),
        ({"outputs": [{"name": "answer", "parameters": {"classification": 3}}]}, "'classification' cannot be honoured"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(client: TestClient, more: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(infer(client, images(image_bytes()), **more))


IMAGE = packed(image_bytes())


@pytest.mark.parametrize(
    ("tensors", "more", "sentence"),
    [
        ({"image": IMAGE}, {"tail": b"more"}, "4 bytes follow the tensors"),
        ({"image": IMAGE[:-1]}, {}, "inputs.0: The bytes end inside of an element"),
        ({"image": IMAGE[:3]}, {}, "inputs.0: The bytes end inside of an element"),
        ({"image": b""}, {}, "inputs.0: The bytes end inside of an element"),
        ({"image": IMAGE + IMAGE}, {}, "inputs.0: The tensor has"),
        ({"image": IMAGE}, {"header": "1000000"}, "Inference-Header-Content-Length is the JSON's bytes, at most"),
        ({"image": IMAGE}, {"header": "-1"}, "Inference-Header-Content-Length is the JSON's bytes, at most"),
        (
            {"image": IMAGE},
            {"header": "0" * 20 + "9" * 5_000},
            "Inference-Header-Content-Length is the JSON's bytes, at",
        ),
        ({"image": IMAGE}, {"header": "9" * 5_000}, "Inference-Header-Content-Length is the JSON's bytes, at most"),
        ({"image": IMAGE}, {"header": "10"}, "not valid JSON"),
        ({"image": IMAGE, "request": packed(b"{}")[:2]}, {}, "inputs.1: The bytes end inside of an element"),
        ({"image": packed(b"")}, {}, "image: The image is empty."),
    ],
)
def test_bad_bytes_are_told(client: TestClient, tensors: dict[str, bytes], more: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(infer_binary(client, tensors, **more))


@pytest.mark.parametrize("size", [-1, 10**9, True, "12", 1.5])
def test_a_size_is_a_number_of_the_bytes_that_follow(client: TestClient, size: Any) -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    assert "whole number, of which 0 follow" in refused(infer(client, tensor))


def test_a_long_image_fits_into_json(client: TestClient) -> None:
    """More than the JSON may hold beside its images: a file with a long comment."""
    file = image_bytes("JPEG", comment=bytes(60_000)) + bytes(2_000_000)
    assert answers(infer(client, images(file, image_bytes())))[0]["regions"]


def test_a_compressed_body_and_other_media_are_refused(client: TestClient) -> None:
    packed_body = client.post(f"{DESCRIBE}/infer", content=b"", headers={"content-encoding": "gzip"})
    assert "compressed" in refused(packed_body, 415)
    form = client.post(f"{DESCRIBE}/infer", files={"image": image_bytes()})
    assert "Content-Type" in refused(form, 415)


def test_models_say_what_they_take(client: TestClient) -> None:
    metadata = client.get(DESCRIBE).json()
    assert (metadata["name"], metadata["versions"]) == ("describe", [CARD.revision])
    assert [each["name"] for each in metadata["inputs"]] == ["image", "request"]
    assert metadata["outputs"] == [{**ANSWER, "shape": [-1]}]
    assert client.get(DETECT).json()["inputs"][0]["shape"] == [1]
    assert client.get(f"{DESCRIBE}/versions/{CARD.revision}").json() == metadata
    assert client.get(f"{DESCRIBE}/ready").json() == {"name": "describe", "ready": True}
    assert client.get(f"{DESCRIBE}/versions/{CARD.revision}/ready").status_code == 200
    by_version = client.post(f"{DESCRIBE}/versions/{CARD.revision}/infer", json={"inputs": [images(image_bytes())]})
    assert answers(by_version)
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]


def test_unknown_models_and_versions_are_told_what_there_is(client: TestClient) -> None:
    for path in ("/v2/models/bert", "/v2/models/bert/ready"):
        assert refused(client.get(path), 404) == "There is no model 'bert'; there are 'describe' and 'detect'."
    assert "the model's is" in refused(client.get(f"{DESCRIBE}/versions/7"), 404)
    assert refused(client.post("/v2/models/bert/infer"), 404)
    assert refused(client.get("/v2/nothing"), 404)


def test_probes_need_no_key_and_all_else_does(make_api: ApiFactory) -> None:
    client = make_api(integrations="kserve", api_keys="sesame").client
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2", DESCRIBE, f"{DESCRIBE}/ready"):
        assert refused(client.get(path), 401)


def test_a_service_that_is_not_ready_says_so() -> None:
    with service(ready=False, integrations="kserve") as (client, _):
        assert client.get("/v2/health/live").status_code == 200
        for path in ("/v2/health/ready", f"{DESCRIBE}/ready"):
            assert refused(client.get(path), 503).startswith("The service is ")
        late = infer(client, images(image_bytes()))
        assert refused(late, 503) and int(late.headers["retry-after"]) >= 1


def test_a_deadline_is_told(make_api: ApiFactory) -> None:
    api = make_api(integrations="kserve")
    api.predictor.run_hook = lambda _: time.sleep(0.3)
    document = {"inputs": [images(image_bytes())]}
    late = api.client.post(f"{DESCRIBE}/infer", json=document, headers={"x-request-timeout": "0.05"})
    assert refused(late, 504) == "The answer was not ready within 0.05 seconds."
