"""A CVAT server, as far as `cvat-cli` and `cvat-sdk` look: one task with images, labels and annotations, and a queue of
requests for a function. The real one is not on a package index.

It holds to the rules that matter here: a change of annotations replaces shapes by their ids and gives them new ones.
"""

import io
import itertools
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TASK, FUNCTION = 7, 3
TOKEN = "cvat-token"
TIME = "2026-11-27T09:00:00.000000Z"


def text_attribute(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "mutable": False,
        "input_type": "text",
        "values": [],
        "default_value": "",
        **more,
    }


def label(number: int, name: str, *attributes: dict[str, Any], kind: str = "any") -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "color": "#33ddff",
        "attributes": list(attributes),
        "type": kind,
        "sublabels": [],
        "project_id": None,
        "task_id": TASK,
        "parent_id": None,
        "has_parent": False,
    }


def shape(number: int, kind: str, points: list[float], label_id: int, frame: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": kind,
        "points": points,
        "label_id": label_id,
        "frame": frame,
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "rotation": 0.0,
        "group": 0,
        "source": "manual",
        "attributes": [],
        "elements": [],
        **more,
    }


class FakeCvat:
    """images: of the task, in the order of its frames. asked: (method, path, body) of every request.

    requests: for the function, as its agent takes them; completed, failed: what it sent back. before_patch: called when
    annotations are about to be changed.
    """

    def __init__(self, images: list[Path], labels: list[dict[str, Any]], shapes: list[dict[str, Any]]) -> None:
        self.images, self.labels, self.shapes = images, labels, shapes
        self.asked: list[tuple[str, str, Any]] = []
        self.function: dict[str, Any] = {}
        self.requests: list[dict[str, Any]] = []
        self.completed: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.before_read: Callable[[int], None] = lambda time: None
        self.reads = 0
        self._numbers = itertools.count(1_000)

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> tuple[int, Any]:
        """(status, JSON or bytes)."""
        if path == "/api/server/about":
            names = dict.fromkeys(("name", "description", "logo_url", "subtitle"), "fake")
            return 200, {**names, "version": "2.80.0"}
        if path == "/api/labels":
            return 200, {"count": len(self.labels), "next": None, "previous": None, "results": self.labels}
        if path.startswith("/api/functions"):
            return self._functions(method, path, body)
        rest = path.rstrip("/").removeprefix(f"/api/tasks/{TASK}")
        if rest == path.rstrip("/"):
            return 404, {"detail": "Not found."}
        if rest == "":
            return 200, self._task()
        if rest == "/data/meta":
            return 200, self._meta()
        if rest == "/data":
            return 200, self._data(query)
        if rest == "/annotations":
            return 200, self._annotations(method, query, body)
        return 404, {"detail": "Not found."}

    def _task(self) -> dict[str, Any]:
        return {
            "id": TASK,
            "name": "fake",
            "jobs": {"count": 1, "completed": 0, "validation": 0, "url": "http://cvat/api/jobs"},
            "labels": {"url": "http://cvat/api/labels"},
            "size": len(self.images),
            "data_chunk_size": 2,
            "data_original_chunk_type": "imageset",
            "data_compressed_chunk_type": "imageset",
            "mode": "annotation",
            "dimension": "2d",
            "organization": None,
            "created_date": TIME,
            "updated_date": TIME,
        }

    def _meta(self) -> dict[str, Any]:
        frames = [{"name": each.name, "width": 640, "height": 427, "related_files": 0} for each in self.images]
        return {"chunks_updated_date": TIME, "frames": frames, "deleted_frames": [], "size": len(frames)}

    def _data(self, query: Mapping[str, list[str]]) -> bytes:
        number = int(query["number"][0])
        if query["type"] == ["frame"]:
            return self.images[number].read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as chunk:
            for place, image in enumerate(self.images[2 * number : 2 * number + 2]):
                chunk.writestr(f"{place:06d}.jpg", image.read_bytes())
        return packed.getvalue()

    def _annotations(self, method: str, query: Mapping[str, list[str]], body: Any) -> dict[str, Any]:
        if method == "GET":
            self.reads += 1
            self.before_read(self.reads)
        else:
            self._change(query.get("action", ["put"])[0], body.get("shapes", []))
        return {"version": 0, "tags": [], "shapes": self.shapes, "tracks": []}

    def _change(self, action: str, shapes: list[dict[str, Any]]) -> None:
        replaced = {each["id"] for each in shapes} if action == "update" else set()
        assert replaced <= {each["id"] for each in self.shapes}
        kept = [] if action == "put" else [each for each in self.shapes if each["id"] not in replaced]
        made = [{**shape(0, "", [], 0), **each, "id": next(self._numbers)} for each in shapes]
        self.shapes = kept + made

    def _functions(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/functions" and method == "POST":
            self.function = {**body, "id": FUNCTION}
            return 201, self.function
        if path == f"/api/functions/{FUNCTION}":
            labels = [{"type": "any", "sublabels": [], **each} for each in self.function.get("labels_v2", [])]
            unset = {"min_neg_points": -1, "startswith_box": False, "startswith_box_optional": False}
            return 200, {**unset, **self.function, "labels_v2": labels}
        if path.endswith("/requests/acquire"):
            for place, each in enumerate(self.requests):
                if each["category"] == body["request_category"]:
                    del self.requests[place]
                    return 200, {"ar_assignment": {"ar_id": f"request-{place}", "ar_params": each["params"]}}
            return 200, {"ar_assignment": None}
        sent = {"complete": self.completed, "fail": self.failed, "update": []}[path.rsplit("/", 1)[1]]
        sent.append(body)
        return 200, {}


@contextmanager
def serving(fake: FakeCvat) -> Iterator[str]:
    """The address that a fake answers at."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            url = urlsplit(self.path)
            fake.asked.append((self.command, self.path, body))
            if url.path != "/api/server/about" and self.headers.get("authorization") != f"Bearer {TOKEN}":
                status, answer = 401, {"detail": "Authentication credentials were not provided."}
            else:
                status, answer = fake.answer(self.command, url.path, parse_qs(url.query), body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(answer, bytes) else "application/vnd.cvat+json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
