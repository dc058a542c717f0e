"""Snippets in Python of a page of docs/integrations, run by the interpreter of its program's environment."""

import os
import subprocess
from pathlib import Path

from tests.docs.examples import ADDRESS, examples_of
from tests.repository import ROOT


def check_snippets(page: str, python: Path, address: str, folder: Path) -> None:
    """Fails where one does not run or prints something else than what stands behind it. address: of the service that
    they ask; folder: the home of what they run."""
    snippets = [each for each in examples_of(ROOT / "docs" / "integrations" / page) if each.kind == "python"]
    assert snippets
    for snippet in snippets:
        ran = subprocess.run(
            [python, "-c", snippet.text.replace(ADDRESS, address)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{snippet}: {ran.stderr[-3_000:]}"
        assert ran.stdout.strip() == snippet.answer.strip(), str(snippet)
