"""The documentation site: it builds without a warning, every link leads somewhere, and nothing comes from elsewhere."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.site import PageLinks, build_site, links_of
from tests.repository import ROOT

pytestmark = pytest.mark.slow
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")
OUTSIDE = re.compile(r"""(?:url\(|@import)\s*["']?\s*(?:https?:)?//[^"')]+""")


@pytest.fixture(scope="module")
def site() -> Path:
    return build_site()


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, PageLinks]:
    return {page: links_of(page) for page in site.rglob("*.html")}


def test_every_page_of_the_docs_is_in_the_site(site: Path) -> None:
    sources = [path for path in (ROOT / "docs").rglob("*.md") if "site" not in path.relative_to(ROOT).parts]
    built = {page.relative_to(site).with_suffix("").as_posix() for page in site.rglob("*.html")}
    assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in sources} <= built


def test_every_link_leads_to_a_file_and_a_place_in_it(site: Path, pages: dict[Path, PageLinks]) -> None:
    lost = []
    for page, found in pages.items():
        for link in found.links + found.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = unquote(parts.fragment)
            if not target.is_file() or (place and target in pages and place not in pages[target].ids):
                lost.append(f"{page.relative_to(site)}: {link}")
    assert not lost


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, PageLinks]) -> None:
    loaded = {each for found in pages.values() for each in found.loads if urlsplit(each).netloc}
    styled = {each for path in site.rglob("*.css") for each in OUTSIDE.findall(path.read_text(encoding="utf-8"))}
    assert not loaded | styled


def test_the_readme_links_to_files() -> None:
    """Code-hosting pages show it; the site has a start page of its own."""
    targets = [urlsplit(link) for link in MARKDOWN_LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert [each.path for each in targets if not each.netloc and not (ROOT / each.path).exists()] == []
