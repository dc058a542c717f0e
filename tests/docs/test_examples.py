"""What the pages tell their readers to run does run, and answers what they show, against a service with the embedded
model and in processes of their own."""

import contextlib
import io
import json
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dynrefer.service.ask_command import ask_command
from dynrefer.service.cli import describe, views
from dynrefer.service.detect_command import detect_command
from dynrefer.service.settings import INTEGRATIONS
from tests.docs.examples import ADDRESS, Example, differences, examples_of
from tests.repository import ROOT
from tests.service.server.test_process import Server, running
from tests.system_programs import needs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Whose snippets in Python need the clients that they are about: `tests/service/integrations` runs those.
OF_INTEGRATIONS = sorted((ROOT / "docs" / "integrations").glob("*.md"))
EXAMPLES = [example for page in PAGES for example in examples_of(page)]
EXAMPLES += [example for page in OF_INTEGRATIONS for example in examples_of(page) if example.kind != "python"]
# Snippets that continue something of the reader's, or write what they cannot write here.
NEEDS_MORE = ("mask.png", "model.describe(\n    image,")
PROBLEM = "urn:problem-type"


def of_kind(kind: str, *, asks: bool | None = None) -> list[Example]:
    """asks: only those that ask the service, or only those that do not."""
    found = [each for each in EXAMPLES if each.kind == kind and not any(part in each.text for part in NEEDS_MORE)]
    return [each for each in found if asks is None or asks == (ADDRESS in each.text)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("dynrefer.service.cli", "serve", "--integrations", ",".join(INTEGRATIONS)) as started:
        started.await_ready()
        yield started


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a folder the current one in which the checkout's files can be read, and what is written stays out of it."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)


@cache
def command_line() -> typer.Typer:
    """Those commands of `dynrefer` that pages have examples of, in this process, where torch is imported once."""
    commands = typer.Typer()
    known: dict[str, Any] = {"describe": describe, "views": views, "detect": detect_command, "ask": ask_command}
    for name, command in known.items():
        commands.command(name)(command)
    return commands


def printed(example: Example, code: str) -> str:
    """What a snippet of an example prints."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, str(example), "exec"), {})
    return said.getvalue()


def check(example: Example, said: str) -> None:
    """Raises AssertionError where the answer is not what the page shows behind the example."""
    try:
        shown = json.loads(example.answer)
    except ValueError:
        assert not example.answer.strip() or "..." in example.answer or said.split() == example.answer.split()
        return
    assert not list(differences(shown, json.loads(said)))


def with_a_service(example: Example, request: pytest.FixtureRequest) -> str:
    """The example's text; where it asks a service, one is started."""
    if ADDRESS not in example.text:
        return example.text
    server: Server = request.getfixturevalue("server")
    return example.text.replace(ADDRESS, server.address)


@pytest.mark.server
@needs("curl", "curl")
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("example", of_kind("curl"), ids=str)
def test_requests_are_answered_as_shown(example: Example, request: pytest.FixtureRequest) -> None:
    command = with_a_service(example, request)
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=300).stdout
    assert (PROBLEM in said) == (PROBLEM in example.answer), said[:500]
    check(example, said)


@pytest.mark.server
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("example", of_kind("python", asks=True), ids=str)
def test_the_client_prints_what_is_shown(example: Example, request: pytest.FixtureRequest) -> None:
    check(example, printed(example, with_a_service(example, request)))


@pytest.mark.slow
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("example", of_kind("python", asks=False), ids=str)
def test_python_prints_what_is_shown(example: Example) -> None:
    check(example, printed(example, example.text))


@pytest.mark.slow
@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("example", of_kind("dynrefer"), ids=str)
def test_commands_print_what_is_shown(example: Example, request: pytest.FixtureRequest) -> None:
    command = with_a_service(example, request)
    done = CliRunner().invoke(command_line(), shlex.split(command.replace("\\\n", " "))[1:])
    assert done.exit_code == 0, done.output
    check(example, done.stdout)


def test_shortened_answers_are_compared() -> None:
    found = {"id": "order-1", "regions": [{"box": [1, 2], "score": 0.5}, {"box": [3, 4], "score": 0.25}]}
    assert not list(differences({"regions": [{"box": [1, 2], "...": "..."}, "..."], "...": "..."}, found))
    assert list(differences({"regions": [{"box": [1, 2], "...": "..."}, "..."]}, found)) == [" has ['id'] besides"]
    assert list(differences({"id": "req_...", "regions": [{"box": [1, 2], "score": 0.52}, "..."]}, found)) == [
        "/regions/0/score is 0.5"
    ]
    assert list(differences({"id": "x", "regions": []}, found)) == ["/id is 'order-1'", "/regions has 2 items"]
