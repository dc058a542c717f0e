"""The body of an inference request -> its tensors. CPU work.

The body is JSON; with the protocol's extension for binary data, the tensors' bytes follow it in the order of the
inputs, and a header says where the JSON ends. An element of datatype BYTES has its length in front, 4 bytes,
little-endian. In JSON such an element is a text: of an image in Base64, of a request the JSON itself.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64
from dynrefer.service.inputs.json_text import Json, parse_json, printable
from dynrefer.service.settings import Settings

IMAGE, REQUEST, ANSWER = "image", "request", "answer"
INPUTS = (IMAGE, REQUEST)
BYTES = "BYTES"
LENGTH = struct.Struct("<I")
MAX_DIMENSIONS = 8
MEMBERS = ("id", "parameters", "inputs", "outputs")
TENSOR_MEMBERS = ("name", "shape", "datatype", "parameters", "data")
# Parameters of Triton's that mean something which this service has not.
REASONS: Mapping[str, str] = {
    "timeout": "the header X-Request-Timeout shortens the deadline, in seconds",
    "priority": "every key has its fair turn",
    **dict.fromkeys(("sequence_id", "sequence_start", "sequence_end"), "requests are independent"),
    **dict.fromkeys(
        ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"), "send the bytes themselves"
    ),
    "classification": "the answer is JSON",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """shape: as it was sent; elements: as many as it says."""

    shape: tuple[int, ...]
    elements: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """tensors: by name. binary: whether the output is to follow the JSON as bytes."""

    id: str | None
    tensors: Mapping[str, Tensor]
    binary: bool


def read_infer_request(body: bytes, header_length: str | None, settings: Settings) -> InferRequest:
    """header_length: the header Inference-Header-Content-Length. Raises InvalidRequestError."""
    end = _json_bytes(header_length, len(body))
    parsed = parse_json(body[:end], settings.max_json_values, base64_members=("data",))
    document = parsed.document
    if not isinstance(document, dict):
        raise InvalidRequestError.at("", "An object with 'inputs' is expected.")
    _only(document, MEMBERS, "")
    binary = _truth(_parameters(document, "", ("binary_data_output",)), "/parameters", "binary_data_output")
    return InferRequest(
        _id(document.get("id"), settings),
        _tensors(document.get("inputs"), parsed, memoryview(body)[end:], settings),
        _binary_output(document.get("outputs"), binary),
    )


MOST_DIGITS = 20  # of a length; Python refuses to read a number of thousands


def _json_bytes(header_length: str | None, length: int) -> int:
    if header_length is None:
        return length
    is_number = header_length.isascii() and header_length.isdigit() and len(header_length) <= MOST_DIGITS
    if not is_number or int(header_length) > length:
        detail = f"Inference-Header-Content-Length is the JSON's bytes, at most the body's {length}."
        raise InvalidRequestError.at("", detail)
    return int(header_length)


def _tensors(inputs: Any, parsed: Json, rest: memoryview, settings: Settings) -> dict[str, Tensor]:
    if not isinstance(inputs, list) or not inputs:
        raise InvalidRequestError.at(
            "/inputs", "A list with the tensors 'image' and, if need be, 'request' is expected."
        )
    found: dict[str, Tensor] = {}
    for place, given in enumerate(inputs):
        at = f"/inputs/{place}"
        name = _checked_tensor(given, at)
        if name in found:
            raise InvalidRequestError.at(f"{at}/name", f"The tensor '{name}' is given twice.")
        shape = _shape(given.get("shape"), settings.max_images if name == IMAGE else 1, at)
        parameters = _parameters(given, at, ("binary_data_size", "content_type"))
        if parameters.get("content_type", "base64") != "base64" or "content_type" in parameters and name != IMAGE:
            raise InvalidRequestError.at(f"{at}/parameters/content_type", "Only an image has one, and it is 'base64'.")
        if "binary_data_size" in parameters:
            size = _size(given, parameters["binary_data_size"], len(rest), at)
            elements = _split(rest[:size], math.prod(shape), at)
            rest = rest[size:]
        else:
            elements = _of_json(given.get("data"), name, math.prod(shape), parsed, at)
        found[name] = Tensor(shape, elements)
    if len(rest):
        raise InvalidRequestError.at("", f"{len(rest)} bytes follow the tensors; 'binary_data_size' counts them all.")
    if IMAGE not in found:
        raise InvalidRequestError.at("/inputs", "The tensor 'image' is missing.")
    return found


def _checked_tensor(given: Any, at: str) -> str:
    """Its name."""
    if not isinstance(given, dict):
        raise InvalidRequestError.at(at, "A tensor is an object with name, shape and datatype.")
    _only(given, TENSOR_MEMBERS, at)
    name = given.get("name")
    if name not in INPUTS:
        raise InvalidRequestError.at(f"{at}/name", "The inputs are 'image' and 'request'.")
    if given.get("datatype") != BYTES:
        raise InvalidRequestError.at(
            f"{at}/datatype", "The datatype is BYTES: an image is its file, a request its JSON."
        )
    return str(name)


def _shape(shape: Any, most: int, at: str) -> tuple[int, ...]:
    """Its product is 1 to `most`."""
    whole = isinstance(shape, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in shape)
    if not whole or not 0 < len(shape) <= MAX_DIMENSIONS or min(shape) < 1:
        raise InvalidRequestError.at(f"{at}/shape", "A shape is a list of whole numbers from 1, such as [1].")
    if max(shape) > most or math.prod(shape) > most:
        count = "one element is" if most == 1 else f"{most} elements are"
        raise InvalidRequestError.at(f"{at}/shape", f"At most {count} accepted.")
    return tuple(shape)


def _size(given: Mapping[str, Any], size: Any, left: int, at: str) -> int:
    if "data" in given:
        raise InvalidRequestError.at(f"{at}/data", "Give either 'data' or 'binary_data_size', not both.")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= left:
        detail = f"The tensor's bytes are a whole number, of which {left} follow the JSON and the tensors before."
        raise InvalidRequestError.at(f"{at}/parameters/binary_data_size", detail)
    return size


def _split(data: memoryview, count: int, at: str) -> tuple[bytes, ...]:
    """The elements of a binary tensor, which fill it."""
    elements = []
    for _ in range(count):
        end = LENGTH.size + (LENGTH.unpack(data[: LENGTH.size])[0] if len(data) >= LENGTH.size else 0)
        if end > len(data):
            raise InvalidRequestError.at(at, "The bytes end inside of an element: each has its length before it.")
        elements.append(bytes(data[LENGTH.size : end]))
        data = data[end:]
    if len(data):
        raise InvalidRequestError.at(at, f"The tensor has {len(data)} bytes more than its shape has elements.")
    return tuple(elements)


def _of_json(data: Any, name: str, count: int, parsed: Json, at: str) -> tuple[bytes, ...]:
    texts = _flat(data) if isinstance(data, list) else []
    if len(texts) != count or not all(isinstance(each, str) for each in texts):
        kind = "an image in Base64" if name == IMAGE else "JSON"
        detail = f"'data' is a list of as many texts as the shape has elements ({count}), each {kind}."
        raise InvalidRequestError.at(f"{at}/data", detail)
    given = [parsed.bytes_of(text) for text in texts]
    return tuple(given) if name == REQUEST else tuple(_decoded(each, at) for each in given)


def _decoded(text: bytes, at: str) -> bytes:
    try:
        return decode_base64(text)
    except Base64Error as error:
        detail = f"This is not standard Base64: the text {error}."
        raise InvalidRequestError.at(f"{at}/data", detail) from None


def _flat(data: list[Any]) -> list[Any]:
    """The items of nested lists, in order: a tensor's rows may be lists of their own."""
    while data and all(isinstance(each, list) for each in data):
        data = [item for each in data for item in each]
    return data


def _parameters(holder: Mapping[str, Any], at: str, known: Sequence[str]) -> Mapping[str, Any]:
    given = holder.get("parameters", {})
    if not isinstance(given, dict):
        raise InvalidRequestError.at(f"{at}/parameters", "An object is expected.")
    for name in given:
        if name not in known:
            reason = f": {REASONS[name]}" if name in REASONS else ""
            detail = f"The parameter '{printable(name)}' cannot be honoured{reason}."
            raise InvalidRequestError.at(f"{at}/parameters", detail)
    return given


def _binary_output(outputs: Any, binary: bool) -> bool:
    if outputs is None or outputs == []:
        return binary
    if not isinstance(outputs, list) or len(outputs) > 1 or not isinstance(outputs[0], dict):
        raise InvalidRequestError.at("/outputs", "There is one output, 'answer'.")
    _only(outputs[0], ("name", "parameters"), "/outputs/0")
    if outputs[0].get("name") != ANSWER:
        raise InvalidRequestError.at("/outputs/0/name", "There is one output, 'answer'.")
    parameters = _parameters(outputs[0], "/outputs/0", ("binary_data",))
    return _truth(parameters, "/outputs/0/parameters", "binary_data", binary)


def _truth(parameters: Mapping[str, Any], at: str, name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError.at(f"{at}/{name}", "true or false is expected.")
    return value


def _id(given: Any, settings: Settings) -> str | None:
    if given is not None and (not isinstance(given, str) or len(given) > settings.max_id_chars):
        raise InvalidRequestError.at("/id", f"A text of at most {settings.max_id_chars} characters is expected.")
    return given


def _only(given: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    for name in given:
        if name not in known:
            detail = f"Unknown field '{printable(name)}'; there are {', '.join(known)}."
            raise InvalidRequestError.at(at, detail)
