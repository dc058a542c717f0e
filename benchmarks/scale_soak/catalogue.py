"""What the soak asks: a fixed list of requests of every kind, the same in every process, and what a right answer is.

A request's answer is compared with what a plain service without load and faults said to the same bytes.
"""

from __future__ import annotations

import base64
import json
import math
import random
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.offline import random_boxes

ROOT = Path(__file__).resolve().parents[2]
IMAGES = (
    *(
        f"tests/recorded/images/{name}"
        for name in ("scene_0.png", "scene_1.jpg", "photo_chelsea.jpg", "photo_coffee.jpg")
    ),
    *(f"benchmarks/photographs/{name}" for name in ("tourist.jpg", "two-dogs.jpg", "sushi.jpg")),
)
TASKS = (["tags"], ["categories"], ["caption"], ["tags", "attributes"], ["caption", "tags", "attributes", "categories"])
JSON = "application/json"
PER_REQUEST = ("id", "instance", "timings_ms")  # members that belong to one request, not to what was asked
CLOSE = 1e-3  # relative and absolute: numbers of the same answer with another number of threads


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. kind: describe, images, detect or bad. regions: how many it asks for."""

    name: str
    kind: str
    path: str
    content_type: str
    body: bytes
    regions: int


@cache
def catalogue() -> tuple[Asked, ...]:
    """All requests; those of one kind stand together."""
    rng = random.Random(20)
    describes = [_describe(rng, count) for count in (1,) * 12 + (2, 2, 3, 3, 4, 4, 5, 6, 8, 8, 12, 16)]
    large = [_describe(rng, 64, ["categories"])]
    images = [_images(rng, count) for count in (2, 3, 4)]
    detects = [_detect(rng, document) for document in DETECTS]
    found = (*describes, *large, *images, *detects, *_bad())
    return tuple(replace(each, name=f"{place}: {each.name}") for place, each in enumerate(found))


# How often each kind is asked; describe requests of 64 regions take two core-seconds, so they are rare.
WEIGHTS = {"describe": 70.0, "large": 1.0, "images": 7.0, "detect": 7.0, "bad": 15.0}


def chosen(rng: random.Random) -> Asked:
    """One request, by the weights of the kinds."""
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    return rng.choice([each for each in catalogue() if each.kind == kind])


DETECTS: tuple[dict[str, Any], ...] = (
    {"names": ["animal", "person", "cup"], "max_regions": 4},
    {"phrase": "the animal on the left"},
    {"max_regions": 3, "describe": {"task": "categories"}},
)


@cache
def _base64(path: str) -> str:
    return base64.b64encode((ROOT / path).read_bytes()).decode()


def _regions(rng: random.Random, count: int) -> list[dict[str, Any]]:
    return [{"box": [round(value, 3) for value in box]} for box in random_boxes(count, rng)]


def _describe(rng: random.Random, count: int, tasks: list[str] | None = None) -> Asked:
    path, task = rng.choice(IMAGES), tasks or rng.choice(TASKS)
    document = {"image": {"base64": _base64(path)}, "regions": _regions(rng, count), "normalized": True, "task": task}
    name = f"{count} of {Path(path).stem}: {'+'.join(task)}"
    return _asked(name, "large" if count > 16 else "describe", "/v1/describe", document, count)


def _images(rng: random.Random, count: int) -> Asked:
    named = rng.sample(IMAGES, count)
    items = [{"image": {"base64": _base64(path)}, "regions": _regions(rng, 2)} for path in named]
    document = {"images": items, "normalized": True, "task": ["tags", "categories"]}
    return _asked(f"{count} images", "images", "/v1/describe", document, 2 * count)


def _detect(rng: random.Random, document: dict[str, Any]) -> Asked:
    path = rng.choice(IMAGES)
    whole = {"image": {"base64": _base64(path)}, **document}
    return _asked(f"detect in {Path(path).stem}: {', '.join(document)}", "detect", "/v1/detect", whole, 1)


def _bad() -> list[Asked]:
    image = base64.b64decode(_base64(IMAGES[1]))
    cut = {"image": {"base64": base64.b64encode(image[: len(image) // 3]).decode()}, "regions": [{"box": [0, 0, 9, 9]}]}
    documents: dict[str, dict[str, Any]] = {
        "a truncated image": cut,
        "no image": {"image": {"base64": base64.b64encode(b"text").decode()}, "regions": [{"box": [0, 0, 9, 9]}]},
        "a flat box": {"image": {"base64": _base64(IMAGES[1])}, "regions": [{"box": [9, 9, 9, 9]}]},
        "an unknown task": {"image": {"base64": _base64(IMAGES[1])}, "regions": [{"box": [0, 0, 9, 9]}], "task": "x"},
        "65 regions": {"image": {"base64": _base64(IMAGES[1])}, "regions": [{"box": [0, 0, 9, 9]}] * 65},
    }
    found = [_asked(name, "bad", "/v1/describe", document, 0) for name, document in documents.items()]
    return [
        *found,
        Asked("no JSON", "bad", "/v1/describe", JSON, b'{"image": ', 0),
        Asked("no such path", "bad", "/v1/describes", JSON, b"{}", 0),
        Asked("no such type", "bad", "/v1/describe", "text/plain", b"{}", 0),
    ]


def _asked(name: str, kind: str, path: str, document: dict[str, Any], regions: int) -> Asked:
    return Asked(name, kind, path, JSON, json.dumps(document).encode(), regions)


def essence(body: bytes) -> Any:
    """An answer without what belongs to one request alone. Raises ValueError for what is no JSON."""
    return _without(json.loads(body))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner) for name, inner in value.items() if name not in PER_REQUEST}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def is_close(one: Any, other: Any) -> bool:
    """Whether two answers differ in the last digits of numbers at most."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_close(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_close, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(one == other)
