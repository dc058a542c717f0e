"""What the tests share: where the recorded outputs of the official code lie."""

from pathlib import Path

import pytest

from tests.repository import ROOT


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--goldens DIR`."""
    parser.addoption(
        "--goldens",
        metavar="DIR",
        type=Path,
        default=None,
        help="recorded outputs of the official code (default: ../shared/goldens beside the repository)",
    )


@pytest.fixture(scope="session")
def goldens(pytestconfig: pytest.Config) -> Path:
    """The folder of recorded outputs; the test is skipped where the default one is absent."""
    given: Path | None = pytestconfig.getoption("--goldens")
    folder = given or ROOT.parent / "shared" / "goldens"
    if folder.is_dir():
        return folder
    if given is not None:
        raise pytest.UsageError(f"--goldens {given} is not a folder")
    pytest.skip("no goldens: put them at ../shared/goldens or give --goldens DIR")
