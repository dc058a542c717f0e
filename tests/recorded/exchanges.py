"""The requests to the service and the command line, and which parts of the answers must not change.

Nothing here knows the code: requests go over HTTP, commands are processes. Ten images, four regions each: six drawn
scenes and four free photographs, in several formats and modes, one of them turned by its EXIF orientation.
"""

import base64
import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent / "images"
RECORD = Path(__file__).parent / "answers.json"
BOXES: dict[str, list[list[float]]] = json.loads((IMAGES / "boxes.json").read_text(encoding="utf-8"))
TASKS = ("caption", "tags", "attributes", "categories")
PATIENCE_S = 300

Json = dict[str, Any]


def image_of(name: str) -> bytes:
    """The bytes of one of the images."""
    return (IMAGES / name).read_bytes()


def request_of(name: str, **fields: Any) -> Json:
    """A request about the four regions of one image; every second one has an id of its own."""
    regions = [{"box": box} | ({"id": f"region-{place}"} if place % 2 else {}) for place, box in enumerate(BOXES[name])]
    return {"image": {"base64": base64.b64encode(image_of(name)).decode()}, "regions": regions, **fields}


def described() -> Iterator[tuple[str, Json]]:
    """Name and body of every request that is answered with a description."""
    names = sorted(BOXES)
    for name in names:
        yield f"{name} all", request_of(name)
        for task in TASKS:
            yield f"{name} {task}", request_of(name, task=task, top_k=3)
    first, second, third = names[0], names[4], names[-1]
    yield "two tasks, two views", request_of(first, task=["caption", "attributes"], top_k=2)
    yield "fixed views", request_of(second, views=[0.0, 0.5, 1.0], top_k=2)
    yield "controls", request_of(second, task="caption", controls=["street", "night"])
    yield "thresholds", request_of(third, thresholds={"tags": 0.99, "attributes": 0.5, "categories": 0.5}, top_k=50)
    x1, y1, x2, y2 = BOXES[first][0]
    one = request_of(first, task="tags", top_k=2)
    yield "xywh", one | {"box_format": "xywh", "regions": [{"box": [x1, y1, x2 - x1, y2 - y1]}]}
    yield "unit", one | {"normalized": True, "regions": [{"box": [0.1, 0.2, 0.6, 0.9]}]}
    yield "a task twice", one | {"task": ["tags", "tags"]}
    yield "clipped", one | {"regions": [{"box": [-20.0, -5.0, x2, y2]}]}


def refused() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Name, body and headers of requests that are refused, one per way of being wrong."""
    name = sorted(BOXES)[0]
    good = request_of(name, task="tags")
    wrong: dict[str, Json] = {
        "box outside": good | {"regions": [{"box": [1e4, 1e4, 2e4, 2e4]}]},
        "box inverted": good | {"regions": [{"box": [50, 50, 10, 10]}]},
        "second box empty": good | {"regions": [{"box": [1, 1, 50, 50]}, {"box": [5, 5, 5, 9]}]},
        "unknown field": good | {"taks": "tags"},
        "unknown task": good | {"task": "poem"},
        "no regions": good | {"regions": []},
        "no image": {key: value for key, value in good.items() if key != "image"},
        "two ids alike": good | {"regions": [{"id": "a", "box": [1, 1, 9, 9]}, {"id": "a", "box": [1, 1, 9, 9]}]},
        "views without 0": good | {"views": [0.1, 0.2, 0.3]},
        "too few views": good | {"views": [0.0, 0.2]},
        "top_k": good | {"top_k": 0},
        "threshold of the caption": good | {"thresholds": {"caption": 0.5}},
        "vocabulary": good | {"vocabulary": {"tags": []}},
        "explain": good | {"explain": "yes"},
        "url": good | {"image": {"url": "https://example.org/a.png"}},
        "not Base64": good | {"image": {"base64": "%%%"}},
        "not an image": good | {"image": {"base64": base64.b64encode(b"no image").decode()}},
        "damaged": good | {"image": {"base64": base64.b64encode(image_of(name)[:200]).decode()}},
        "blank control": good | {"controls": [" "]},
        "too many regions": good | {"regions": [{"box": [1, 1, 9, 9]}] * 65},
    }
    as_json = {"content-type": "application/json"}
    for what, document in wrong.items():
        yield what, json.dumps(document).encode(), as_json
    yield "not JSON", b"{", as_json
    yield "NaN", json.dumps(good | {"regions": [{"box": [float("nan"), 0, 1, 1]}]}).encode(), as_json
    yield "a key twice", b'{"image": {}, "image": {}}', as_json
    yield "not UTF-8", b"\xff{}", as_json
    yield "content type", b"{}", {"content-type": "text/plain"}
    yield "compressed", b"{}", as_json | {"content-encoding": "gzip"}
    yield "form without parts", b"--x--\r\n", {"content-type": "multipart/form-data; boundary=x"}
    yield "timeout header", json.dumps(good).encode(), as_json | {"x-request-timeout": "soon"}


def form_of(name: str, boundary: str = "recorded") -> tuple[bytes, dict[str, str]]:
    """The multipart form of a request, and its content type."""
    fields = {key: value for key, value in request_of(name, task="tags", top_k=2).items() if key != "image"}
    parts = (("image", image_of(name)), ("request", json.dumps(fields).encode()))
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"; filename="x"\r\n\r\n'.encode() + data + b"\r\n"
        for part, data in parts
    )
    return body + f"--{boundary}--\r\n".encode(), {"content-type": f"multipart/form-data; boundary={boundary}"}


def exchange(address: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Json:
    """Status and body of an answer; a problem document without its prose."""
    sent = urllib.request.Request(address + path, body, {"x-request-id": "recorded", **(headers or {})})
    try:
        with urllib.request.urlopen(sent, timeout=PATIENCE_S) as response:
            status, data = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, data = error.code, error.read()
    document = json.loads(data)
    if status >= 400:
        document.pop("detail", None)
        for each in document.get("errors", ()):
            each.pop("detail")
    return {"status": status, "body": _without_times(document)}


def _without_times(document: Any) -> Any:
    """The stages stay, their milliseconds go."""
    if isinstance(document, list):
        return [_without_times(each) for each in document]
    if isinstance(document, dict):
        return {key: sorted(value) if key == "timings_ms" else _without_times(value) for key, value in document.items()}
    return document


def exchanges(address: str, images: Sequence[str] | None = None) -> Json:
    """Every request over HTTP, name -> answer; only about the images named, if any are."""
    found = {}
    for name, document in described():
        image = name.partition(" ")[0]
        if images is not None and image in BOXES and image not in images:
            continue
        found[name] = exchange(
            address, "/v1/describe", json.dumps(document).encode(), {"content-type": "application/json"}
        )
    found["form"] = exchange(address, "/v1/describe", *form_of(sorted(BOXES)[1]))
    for name, body, headers in refused():
        found[f"refused: {name}"] = exchange(address, "/v1/describe", body, headers)
    found["models"] = exchange(address, "/v1/models")
    for card in found["models"]["body"]["models"]:
        assert card["batch_invariant"] in (True, False)
        card["batch_invariant"] = "as probed on the machine"
    for entry in found["models"]["body"].get("data", ()):
        assert entry["created"] > 0
        entry["created"] = "when it was loaded"
    found["openapi"] = _without_descriptions(exchange(address, "/openapi.json"))
    for path in ("/livez", "/readyz", "/nowhere", "/v1/describe"):
        found[path] = exchange(address, path)
    return found


def _without_descriptions(document: Any) -> Any:
    """The OpenAPI document without its prose, descriptions and summaries, and without its examples, which have a test
    of their own."""
    if isinstance(document, list):
        return [_without_descriptions(each) for each in document]
    if isinstance(document, dict):
        left_out = {key for key in ("description", "summary") if isinstance(document.get(key), str)}
        left_out |= {"example", "examples"}
        return {key: _without_descriptions(value) for key, value in document.items() if key not in left_out}
    return document


def metric_names(address: str) -> list[str]:
    """Every metric with its labels' names, and the values of the labels that come from a closed set."""
    with urllib.request.urlopen(address + "/metrics", timeout=PATIENCE_S) as response:
        lines = response.read().decode().splitlines()
    names = {re.sub(r'(le)="[^"]*"', r"\1", line.rsplit(" ", 1)[0]) for line in lines if line.startswith("dynrefer")}
    return sorted(names)


def log_keys(lines: Sequence[str]) -> list[str]:
    """The keys of the JSON lines of answered requests."""
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return sorted({key for entry in found if entry["logger"].endswith("access") for key in entry})


COMMANDS: dict[str, list[str]] = {
    "describe": ["describe", "{image}", "--box", "{box}", "--json"],
    "describe one task": ["describe", "{image}", "--box", "{box}", "--task", "tags", "--json"],
    "help": ["--help"],
    **{f"help of {name}": [*name.split(), "--help"] for name in (
        "serve", "key", "describe", "views", "convert", "train", "evaluate", "bench", "bench model", "bench counts",
        "bench attention", "bench repeats", "bench views", "bench start", "bench agreement", "bench company",
    )},
    "unknown command": ["paint"],
    "unknown flag": ["describe", "{image}", "--box", "{box}", "--colour"],
    "unknown task": ["describe", "{image}", "--box", "{box}", "--task", "poem"],
    "no such image": ["describe", "nowhere.png", "--box", "{box}"],
    "no numbers": ["describe", "{image}", "--box", "a,b,c,d"],
    "box outside": ["describe", "{image}", "--box", "9000,9000,9100,9100"],
    "no such model": ["describe", "{image}", "--box", "{box}", "--model", "nowhere"],
    "not a picture's ending": ["describe", "{image}", "--box", "{box}", "--draw", "out.txt"],
    "serve: unknown level": ["serve", "--log-level", "loud"],
    "serve: no such model": ["serve", "--port", "0", "--model", "nowhere"],
    "key": ["key", "somebody"],
    "key: no name": ["key", "no name"],
    "convert: no weights": ["convert", "--weights", "nowhere.pth", "--out", "nowhere"],
    "evaluate: no data": ["evaluate", "--data", "nowhere.json", "--task", "captions"],
    "train: no data": ["train", "--train", "nowhere.json", "--out", "nowhere"],
    "bench: no preset": ["bench", "model", "--preset", "huge"],
}  # fmt: skip


def commands(program: Sequence[str], names: Sequence[str] | None = None) -> Json:
    """Every command's exit code; of `--help` the flags; of `--json` the answer.

    program: how to start `dynrefer`, such as ["dynrefer"].
    """
    name = sorted(BOXES)[0]
    values = {"image": str(IMAGES / name), "box": ",".join(f"{value:g}" for value in BOXES[name][0])}
    found: Json = {}
    for what in names or COMMANDS:
        arguments = COMMANDS[what]
        done = subprocess.run(
            [*program, *(each.format(**values) for each in arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        found[what] = {"code": done.returncode}
        if "--json" in arguments and done.returncode == 0:
            found[what]["answer"] = _without_times(json.loads(done.stdout))
        elif "--help" in arguments:
            # A flag at the head of its line, however the help beside it is worded.
            found[what]["flags"] = sorted(set(re.findall(r"^  +(?:-\w, )?(--[a-z][a-z-]*)", done.stdout, re.MULTILINE)))
        else:
            found[what]["lines on standard error"] = len(done.stderr.splitlines())
    return found
