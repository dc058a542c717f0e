"""The query of a URL -> the request document that it stands for, where the body is the image alone.

    POST /v1/describe?box=64,256,384,384&box=0,0,32,32&task=caption&top_k=3

Lists are parameters that come several times, or items separated by commas; numbers and words are written as in JSON.
What is not written as its field needs it stays a text, which the schema refuses with the field's pointer.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from dynrefer.model import VOCABULARY_MEMBERS
from dynrefer.service.api.explanation_schemas import ExplainIn
from dynrefer.service.api.schemas import SCORED_TASKS
from dynrefer.service.errors import FieldError, InvalidRequestError
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.settings import Settings

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
# NaN and Infinity too, which the schema refuses with a sentence of its own.
NUMBER = re.compile(r"-?(?:(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,9})?|NaN|Infinity)")
MAX_REPORTED = 20
# Around the whole image, whatever its size.
WHOLE_IMAGE = {"regions": [{"box": [0, 0, 1, 1]}], "box_format": "xyxy", "coordinates": "unit"}
# Those that make regions, in the order of the regions, and what is said of all of them.
REGION_PARAMETERS = ("box", "polygon", "scribble", "mask", "point", "highlight", "id")
BOX_NOTATION = ("box_format", "coordinates", "normalized")


def read_parameters(query: str, settings: Settings) -> dict[str, Any]:
    """The document; without a box its one region is the whole image. Raises InvalidRequestError."""
    given = _values(query, settings)
    _refuse_unknown(given, READERS)
    members = [name for name in given if name.startswith("vocabulary.")]
    if members and "vocabulary" in given:
        detail = f"Give either 'vocabulary', the name of one, or lists of words ('{members[0]}'), not both."
        raise InvalidRequestError.at("/vocabulary", detail)
    if "explain" in given and (members := [name for name in given if name.startswith("explain.")]):
        raise InvalidRequestError.at("/explain", f"Give either 'explain' or its members ('{members[0]}'), not both.")
    document: dict[str, Any] = {}
    for name, values in given.items():
        field, _, member = name.partition(".")
        value = READERS[name](name, values)
        if member:
            document.setdefault(field, {})[member] = value
        elif name not in REGION_PARAMETERS:
            document[name] = value
    return {**document, **_regions(given)}


def read_detect_parameters(query: str, settings: Settings) -> dict[str, Any]:
    """The document of a request that finds: `names` by parameters `name`, `describe` by tasks. Raises
    InvalidRequestError."""
    given = _values(query, settings)
    _refuse_unknown(given, DETECT_READERS)
    document = {name: DETECT_READERS[name](name, values) for name, values in given.items()}
    if "name" in document:
        document["names"] = document.pop("name")
    if "describe" in document:
        tasks = document["describe"]
        document["describe"] = {} if tasks == ["true"] else {"task": tasks}
    return document


def read_converse_parameters(query: str, settings: Settings) -> dict[str, Any]:
    """The document of a request that asks: its one message by `question`, `answers` by parameters `answer`; without a
    region it is about the image as a whole. Raises InvalidRequestError."""
    given = _values(query, settings)
    _refuse_unknown(given, CONVERSE_READERS)
    if "question" not in given:
        raise InvalidRequestError.at("/question", "This field is required.")
    document = {
        name: CONVERSE_READERS[name](name, values) for name, values in given.items() if name not in REGION_PARAMETERS
    }
    document["messages"] = [{"role": "user", "content": document.pop("question")}]
    if "answer" in document:
        document["answers"] = document.pop("answer")
    if any(name in given for name in (*REGION_PARAMETERS, *BOX_NOTATION)):
        document |= _regions(given)
    return document


def _refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        errors = [FieldError(f"/{printable(name)}", _unknown(name, known)) for name in unknown[:MAX_REPORTED]]
        summary = errors[0].detail if len(errors) == 1 else f"The request has {len(errors)} errors."
        raise InvalidRequestError(summary, errors)


def _values(query: str, settings: Settings) -> dict[str, list[str]]:
    """Parameter -> its values, in order."""
    lists = 2 * settings.max_regions + max(settings.max_controls, settings.max_answers)
    most = lists + len(READERS) + MAX_REPORTED
    given = "&".join(part for part in query.split("&") if part)
    try:
        pairs = parse_qsl(given, True, strict_parsing=bool(given), errors="strict", max_num_fields=most)
    except UnicodeDecodeError:
        raise InvalidRequestError.at("", "The query of the URL is not valid UTF-8 text.") from None
    except ValueError:
        detail = f"The query of the URL is at most {most} parameters, each NAME=VALUE, separated by '&'."
        raise InvalidRequestError.at("", detail) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _regions(given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    boxes, ids = given.get("box", ()), given.get("id", ())
    found: list[dict[str, Any]] = [{"box": _numbers("box", [box])} for box in boxes]
    found += [{name: _numbers(name, [text])} for name in ("polygon", "scribble") for text in given.get(name, ())]
    if "mask" in given:
        found.append({"mask": _text("mask", given["mask"])})
    if "point" in given:
        found.append({"points": [_point(text) for text in given["point"]]})
    if "highlight" in given:
        for region in found:
            region["highlight"] = _truth("highlight", given["highlight"])
    if ids and len(ids) != max(len(found), 1):
        more = " and the region of the points" if "point" in given else ""
        what = f"{len(boxes)} boxes{more}" if len(found) == len(boxes) + ("point" in given) else f"{len(found)} regions"
        raise InvalidRequestError.at("/id", f"{len(ids)} ids were given for {what}.")
    if found:
        return {"regions": [{**region, "id": name} for region, name in zip(found, ids, strict=True)] if ids else found}
    if "highlight" in given:
        raise InvalidRequestError.at("/highlight", "'highlight' needs a polygon, a mask or a point.")
    for name in BOX_NOTATION:
        if name in given:
            raise InvalidRequestError.at(
                f"/{name}", f"'{name}' needs a box; without one the region is the whole image."
            )
    region = {**WHOLE_IMAGE["regions"][0], **({"id": ids[0]} if ids else {})}  # type: ignore[dict-item]
    return {**WHOLE_IMAGE, "regions": [region]}


def _unknown(name: str, readers: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name[:64], readers, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"Unknown parameter '{printable(name)}'.{hint}"


def _text(name: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise InvalidRequestError.at(
            f"/{name.replace('.', '/')}", f"The parameter '{name}' was given {len(values)} times."
        )
    return values[0]


def _number(name: str, values: Sequence[str]) -> float | str:
    return _as_number(_text(name, values))


def _whole_number(name: str, values: Sequence[str]) -> int | str:
    text = _text(name, values)
    return int(text) if WHOLE_NUMBER.fullmatch(text) else text


def _truth(name: str, values: Sequence[str]) -> bool | str:
    text = _text(name, values)
    return {"true": True, "false": False}.get(text, text)


def _words(_: str, values: Sequence[str]) -> list[str]:
    """Items of all values, which commas separate too."""
    return [word for value in values for word in value.split(",")]


def _texts(_: str, values: Sequence[str]) -> list[str]:
    return list(values)


def _numbers(_: str, values: Sequence[str]) -> list[float | str]:
    return [_as_number(word.strip()) for value in values for word in value.split(",")]


def _point(text: str) -> dict[str, Any]:
    """x,y or x,y,0 for a point beside the object."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["0"], ["1"]):
        raise InvalidRequestError.at("/point", "A point is x,y, or x,y,0 where it does not lie on the object.")
    return {"x": _as_number(parts[0]), "y": _as_number(parts[1]), "positive": parts[2:] != ["0"]}


def _as_number(text: str) -> float | str:
    return float(text) if NUMBER.fullmatch(text) else text


# Of every field that may stand in a query. `vocabulary` is the name of one, its members are lists of words.
READERS: Mapping[str, Callable[[str, Sequence[str]], Any]] = {
    "box": _numbers,
    "polygon": _texts,
    "scribble": _texts,
    "mask": _texts,
    "point": _texts,
    "highlight": _truth,
    "id": _texts,
    "box_format": _text,
    "coordinates": _text,
    "normalized": _truth,
    "orientation": _text,
    "task": _words,
    "controls": _texts,
    "controls_only": _truth,
    "num_captions": _whole_number,
    "num_beams": _whole_number,
    "max_words": _whole_number,
    "views": _numbers,
    "view_policy": _text,
    "explain": _truth,
    **{f"explain.{member}": _truth for member in ExplainIn.model_fields},
    "top_k": _whole_number,
    **{f"thresholds.{task}": _number for task in SCORED_TASKS},
    "vocabulary": _text,
    **{f"vocabulary.{member}": _words for member in VOCABULARY_MEMBERS},
    "language": _text,
    "on_region_error": _text,
}

# Of a request that finds. `describe` is a list of tasks, or true for all of them.
DETECT_READERS: Mapping[str, Callable[[str, Sequence[str]], Any]] = {
    "name": _texts,
    "phrase": _text,
    "threshold": _number,
    "nms": _number,
    "max_regions": _whole_number,
    "masks": _truth,
    "describe": _words,
    "orientation": _text,
    "language": _text,
}

# Of a request that asks.
CONVERSE_READERS: Mapping[str, Callable[[str, Sequence[str]], Any]] = {
    "question": _text,
    **{name: READERS[name] for name in (*REGION_PARAMETERS, *BOX_NOTATION, "orientation") if name != "highlight"},
    "answer": _texts,
    "ground": _truth,
    "max_tokens": _whole_number,
    "stream": _truth,
    "verify": _truth,
}

# May be given several times.
_SEVERAL: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
# What the OpenAPI document says of a parameter, by how it is read. Lists whose items commas separate are one text.
_SCHEMAS: Mapping[Callable[[str, Sequence[str]], Any], dict[str, Any]] = {
    _text: {"type": "string"},
    _texts: _SEVERAL,
    _words: {"type": "string", "description": "separated by commas"},
    _numbers: {"type": "string", "description": "numbers separated by commas"},
    _number: {"type": "number"},
    _whole_number: {"type": "integer"},
    _truth: {"type": "boolean"},
}
_BOX = {**_SEVERAL, "description": "each four numbers separated by commas"}


def parameters_schema(readers: Mapping[str, Callable[[str, Sequence[str]], Any]]) -> dict[str, Any]:
    """JSON schema of the parameters that are read so, as members of one object: each is a parameter of its own."""
    members = {name: _BOX if name == "box" else _SCHEMAS[reader] for name, reader in readers.items()}
    return {"type": "object", "properties": members, "additionalProperties": False}
