"""The real Label Studio in a process of its own, and its API as a browser and scripts use it."""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.service.integrations.environments import python_with

PATIENCE_S = 280  # the first start makes a database, a minute or several; pytest gives a test up after 300
DATABASE = "label_studio.sqlite3"
USER, PASSWORD = "annotator@example.com", "correct-horse-battery"
# Without them it refuses a backend, and its webhook, at a private or loopback address.
REACHES_PRIVATE_ADDRESSES = {
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    "USE_DEFAULT_BANNED_SUBNETS": "false",
}
QUIET = {"COLLECT_ANALYTICS": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "false"}


class LabelStudioProgram:
    """A running one. url: where it is. client: with the session of its user. token: a personal access token."""

    def __init__(self, url: str, client: httpx2.Client, log: Path) -> None:
        self.url, self.client, self.log = url, client, log
        self.token = ""

    def sign_in(self) -> None:
        """As the page does, which then makes a personal access token."""
        page = self.client.get("/user/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        form = {"email": USER, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        signed_in = self.client.post("/user/login/", data=form, headers={"referer": self.url})
        assert signed_in.status_code == 302, signed_in.text
        self.token = self.post("/api/token/", {})["token"]

    def post(self, path: str, document: Any, status: tuple[int, ...] = (200, 201)) -> Any:
        """POST a JSON document -> the answer."""
        return self._answered(self.client.post(path, json=document, headers=self.headers()), status)

    def patch(self, path: str, document: Any) -> Any:
        """PATCH a JSON document -> the answer."""
        return self._answered(self.client.patch(path, json=document, headers=self.headers()), (200,))

    def get(self, path: str, **parameters: str) -> Any:
        """GET -> the answer."""
        return self._answered(self.client.get(path, params=parameters), (200,))

    def delete(self, path: str) -> None:
        """DELETE."""
        assert self.client.delete(path, headers=self.headers()).status_code in (200, 204)

    def project(self, config: str, images: Mapping[str, bytes]) -> tuple[int, list[int]]:
        """A new project with uploaded images -> (its id, its tasks' ids)."""
        project: int = self.post("/api/projects", {"title": "regions", "label_config": config})["id"]
        files = {name: (name, data) for name, data in images.items()}
        path = f"/api/projects/{project}/import?commit_to_project=true"
        self._answered(self.client.post(path, files=files, headers=self.headers()), (201,))
        tasks = self.get("/api/tasks", project=str(project))["tasks"]
        assert len(tasks) == len(images)
        return project, sorted(task["id"] for task in tasks)

    def add_backend(self, project: int, url: str, key: str = "", status: tuple[int, ...] = (200, 201)) -> Any:
        """Connect a project with a model, as its settings do."""
        document = {"project": project, "url": url, "title": "DynRefer", "is_interactive": True}
        if key:
            document |= {"auth_method": "BASIC_AUTH", "basic_auth_user": "label-studio", "basic_auth_pass": key}
        return self.post("/api/ml/", document, status)

    def retrieve_predictions(self, project: int, tasks: list[int]) -> None:
        """The action "Retrieve predictions" of the data manager."""
        selected = {"selectedItems": {"all": False, "included": tasks}}
        self.post(f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", selected)

    def predictions(self, task: int) -> list[Any]:
        """Those that are stored of a task."""
        found: list[Any] = self.get("/api/predictions", task=str(task))
        return found

    def headers(self) -> dict[str, str]:
        """What a request that changes something needs beside the session."""
        return {"x-csrftoken": self.client.cookies.get("csrftoken") or "", "referer": self.url}

    def _answered(self, response: httpx2.Response, status: tuple[int, ...]) -> Any:
        assert response.status_code in status, f"{response.request.url}: {response.status_code} {response.text[:2000]}"
        return response.json()


@contextmanager
def label_studio(folder: Path, port: int) -> Iterator[LabelStudioProgram]:
    """The real program with an empty database in the folder, and a user who is signed in.

    The database of the first start is kept beside the program, because its hundreds of migrations take a minute.
    """
    program = python_with("label-studio").parent / "label-studio"
    made = program.parent.parent / DATABASE
    if made.exists():
        shutil.copyfile(made, folder / DATABASE)
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        **REACHES_PRIVATE_ADDRESSES,
        **QUIET,
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_HOST": url,
        "DJANGO_DB": "sqlite",
    }
    command = [str(program), "start", "--no-browser", "--port", str(port), "--username", USER, "--password", PASSWORD]
    log = folder / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=folder)
    try:
        with httpx2.Client(base_url=url, timeout=120, trust_env=False) as client:
            running = LabelStudioProgram(url, client, log)
            _await_start(running, process)
            if not made.exists():
                _keep(folder / DATABASE, made)
            running.sign_in()
            yield running
    finally:
        process.kill()
        process.wait()


def _keep(database: Path, made: Path) -> None:
    new = made.with_suffix(f".{os.getpid()}")
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(new)) as copy:
        source.backup(copy)
    os.replace(new, made)


def _await_start(program: LabelStudioProgram, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < until and process.poll() is None, program.log.read_text(errors="replace")[-4000:]
        try:
            if program.client.get("/health").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.5)
