"""Records of the service -> an inference response, and errors in the protocol's form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from dynrefer.model import Translator
from dynrefer.service.api.answering import as_json
from dynrefer.service.api.images_schemas import DescribeImagesResponse
from dynrefer.service.api.posting import json_response
from dynrefer.service.api.problems import ToldProblem
from dynrefer.service.integrations.kserve.requests import Inference
from dynrefer.service.integrations.kserve.tensors import ANSWER, BYTES, LENGTH

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class InferResponse:
    """body: JSON, and the output's bytes behind it where they are binary. json_bytes: of the JSON then, else None."""

    body: bytes
    json_bytes: int | None

    def response(self, translator: Translator | None) -> Response:
        """With the language of its names."""
        response = json_response(self.body, translator)
        if self.json_bytes is not None:
            response.headers[HEADER_LENGTH] = str(self.json_bytes)
            response.headers["Content-Type"] = "application/octet-stream"
        return response


def written(inference: Inference, version: str, record: BaseModel) -> InferResponse:
    """The answers as the tensor `answer`, whose shape is that of the images. CPU work."""
    elements = _elements(record)
    output: dict[str, Any] = {"name": ANSWER, "shape": list(inference.shape), "datatype": BYTES}
    tensor = b"".join(part for each in elements for part in (LENGTH.pack(len(each)), each)) if inference.binary else b""
    if inference.binary:
        output["parameters"] = {"binary_data_size": len(tensor)}
    else:
        output["data"] = [each.decode() for each in elements]
    document = {"model_name": inference.model, "model_version": version, "outputs": [output]}
    if inference.id is not None:
        document["id"] = inference.id
    text = json.dumps(document, ensure_ascii=False).encode()
    return InferResponse(text + tensor, len(text) if inference.binary else None)


def problem(told: ToldProblem) -> Response:
    """`{"error"}`: the sentences, each after the place of the field at fault, and the request's id in the headers."""
    sentences = [_sentence(each.pointer, each.detail) for each in told.fields] or [told.detail]
    return JSONResponse({"error": " ".join(sentences)}, told.kind.status, dict(told.headers))


def _elements(record: BaseModel) -> Sequence[bytes]:
    """An answer per image. Those about several images say what the answer about one does: its id, its model."""
    if not isinstance(record, DescribeImagesResponse):
        return [as_json(record)]
    head = {"id": record.id, "model": record.model}
    found = [{**head, **each.model_dump(mode="json", exclude_none=True)} for each in record.images]
    return [json.dumps(each, ensure_ascii=False).encode() for each in found]


def _sentence(pointer: str, detail: str) -> str:
    place = pointer.strip("/").replace("/", ".")
    return detail if not place or f"'{place}'" in detail else f"{place}: {detail}"
