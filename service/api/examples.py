"""The examples of the OpenAPI document, which `examples.json` beside this file holds: requests about one small drawing,
what the embedded model answers them, and every problem. `python -m tests.service.api.update_examples` writes them.

    {"POST /v1/describe": {
        "requests": {media type: {name: example}},
        "answers": {status: {media type: {name: example}}},
        "parameters": {name: value},
    }, ...}

An example is OpenAPI's Example Object. A request and its answer have the same name. `SAMPLE` stands for the drawing.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynrefer.service.playground import HERE

Json = dict[str, Any]

EXAMPLES = Path(__file__).with_name("examples.json")
SAMPLE = "@scene.webp"  # in the place of the drawing's Base64
SAMPLE_PATH = "static/docs/scene.webp"  # beside the document; the documentation page sends it where no file is chosen
FORM = "multipart/form-data"
METHODS = ("get", "post")


def add_examples(document: Json) -> None:
    """Put the examples into an OpenAPI document, those of operations that it lacks aside."""
    for name, examples in load_examples().items():
        method, _, path = name.partition(" ")
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:  # metrics on a port of their own
            continue
        for media, named in examples["requests"].items():
            content = operation["requestBody"]["content"][media]
            content["examples"] = named
            if media == FORM:
                form = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                _add_to_part(form["properties"]["request"], named)
        for status, contents in examples["answers"].items():
            for media, named in contents.items():
                operation["responses"][status]["content"][media]["examples"] = named
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in examples["parameters"]:
                parameter["example"] = examples["parameters"][parameter["name"]]


def _add_to_part(schema: Json, named: Json) -> None:
    """Of a form, tools show the examples of its parts, which stand in their schemas, rather than its own."""
    schema["examples"] = [example["value"]["request"] for example in named.values()]


def load_examples() -> dict[str, Json]:
    """By operation, with the drawing in its places."""
    image = base64.b64encode((HERE / SAMPLE_PATH).read_bytes()).decode()
    # Base64 needs no escapes in JSON, so that the whole text can be replaced at once.
    loaded: dict[str, Json] = json.loads(EXAMPLES.read_text(encoding="utf-8").replace(f'"{SAMPLE}"', f'"{image}"'))
    return loaded


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    """Every operation of an OpenAPI document, by its method and path."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]
