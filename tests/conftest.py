"""Shared by all tests: where the recorded outputs of the official code are."""

from pathlib import Path

import pytest

from tests.repository import ROOT


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--goldens DIR`."""
    parser.addoption(
        "--goldens",
        metavar="DIR",
        type=Path,
        default=ROOT / "tests" / "goldens",
        help="recorded outputs of the official code (default: tests/goldens, which lacks the photographs)",
    )


def goldens_folder(config: pytest.Config) -> Path:
    """The folder that `--goldens` names."""
    folder: Path = config.getoption("--goldens")
    if not (folder / "tiny_config.json").is_file():
        raise pytest.UsageError(f"--goldens {folder} is not a folder of recorded outputs")
    return folder


@pytest.fixture(scope="session")
def goldens(pytestconfig: pytest.Config) -> Path:
    """The folder of recorded outputs."""
    return goldens_folder(pytestconfig)
