"""The documentation site, built once for all tests that look at it, and what its pages link to."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from tests.repository import ROOT

_folder = tempfile.TemporaryDirectory(prefix="dynrefer-docs-")  # removed when the tests end


@cache
def build_site() -> Path:
    """The folder of the site, built as `make docs` does. Raises AssertionError with what Sphinx warned of."""
    out = Path(_folder.name)
    options = ("--fail-on-warning", "--keep-going", "--quiet", "-b", "html", "-c", "docs/site")
    command = [sys.executable, "-m", "sphinx", *options, "-d", str(out / "doctrees"), ".", str(out / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "site"


@dataclass
class PageLinks(HTMLParser):
    """What a page loads, where its links lead, and the ids that links may lead to."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects; `HTMLParser` calls it."""
        values = {name: value for name, value in attrs if value is not None}
        if "id" in values:
            self.ids.add(values["id"])
        if "href" in values:
            (self.links if tag == "a" else self.loads).append(values["href"])
        self.loads += [values[name] for name in ("src", "data", "poster") if name in values]


def links_of(page: Path) -> PageLinks:
    """The links of an HTML file."""
    found = PageLinks()
    found.feed(page.read_text(encoding="utf-8"))
    return found
