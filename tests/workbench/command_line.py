"""The `dynrefer` command, run in the test's own process."""

import pytest
import typer

from dynrefer.service import cli


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command ends that must end with exit code 2, and without a traceback."""
    monkeypatch.setattr("sys.argv", ["dynrefer", *arguments])
    monkeypatch.setattr(cli, "app", typer.Typer())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2 and printed.out == "" and "Traceback" not in printed.err
    (line,) = [line for line in printed.err.splitlines() if line.startswith("dynrefer: ")]
    return line
