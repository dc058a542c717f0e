"""A client that openapi-python-client makes of the document describes regions, as docs/openapi.md says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrefer.service.api.document_schemas import ALTERNATIVES
from tests.repository import ROOT
from tests.service.api.client_generator import environment, run
from tests.service.server.test_process import Server, running

pytestmark = [pytest.mark.server, pytest.mark.slow]

PAGE = ROOT / "docs" / "openapi.md"
ADDRESS = "http://127.0.0.1:8000"


def block(language: str) -> str:
    """The page's first block in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, language
    return found[1]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as server:
        server.await_ready()
        yield server


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the generated package, and what the generator printed."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "client.yaml").write_text(block("yaml"), encoding="utf-8")
    install, generate = block("sh").splitlines()
    assert install.removeprefix("pip install ") in (Path(__file__).with_name("client_generator.txt")).read_text()
    _, *arguments = generate.replace(ADDRESS, server.address).split()
    return folder, run(environment(), "-m", "openapi_python_client", *arguments, cwd=folder)


def test_the_generator_understands_the_whole_document(client: tuple[Path, str], server: Server) -> None:
    folder, printed = client
    assert printed.strip() == "Generating dynrefer_http", printed
    schemas = json.loads(server.get("/openapi.json")[1])["components"]["schemas"]
    expected = {name for name, schema in schemas.items() if "properties" in schema}
    names = re.findall(r"^class (\w+)", "\n".join(_sources(folder / "dynrefer_http/models")), re.MULTILINE)
    assert len(expected) > 50 and expected <= set(names)
    (request,) = _sources(folder / "dynrefer_http/models", "describe_request.py")
    for member, schema in (("image", "ImageIn"), ("regions", "RegionIn")):
        annotated = re.search(rf"^    {member}: ((?:.|\n {{4}})*)", request, re.MULTILINE)
        assert annotated and set(ALTERNATIVES[schema].values()) <= set(re.findall(r"\w+", annotated[1]))


def _sources(folder: Path, pattern: str = "*.py") -> Iterator[str]:
    return (path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern)))


def test_the_example_of_the_page_runs(client: tuple[Path, str], server: Server) -> None:
    folder, _ = client
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "example.py").write_text(block("py").replace(ADDRESS, server.address), encoding="utf-8")
    assert run(environment(), "example.py", cwd=folder) == block("text")
