"""The documentation site, by Sphinx: `make docs` writes it to build/docs.

The source directory is the whole checkout, of which only the pages named below are read, so that a relative link is
the same on a code-hosting page and in the site: to another page, to a heading of it, or to any file of the repository,
which is then copied along. Whatever does not resolve is a warning, and warnings are errors.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages outside docs/ that the site has too.
PAGES_ELSEWHERE = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "benchmarks/photographs/README.md",
    "tests/goldens/README.md",
)

project = "DynRefer service"
author = "the authors of the DynRefer service"
project_copyright = f"{author}, Apache-2.0"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", *PAGES_ELSEWHERE]
# Folders that hold no page are not even walked: an environment has tens of thousands of files.
_WITH_PAGES = {"docs"} | {page.split("/")[0] for page in PAGES_ELSEWHERE}
exclude_patterns = [entry.name for entry in ROOT.iterdir() if entry.is_dir() and entry.name not in _WITH_PAGES]
nitpicky = True
# Types of other projects, whose inventories are not at hand without a network; the last two are aliases of ours.
nitpick_ignore_regex = [(r"py:.*", r"(collections|os|pathlib|PIL|numpy|np)\..*|NDArray|Corners")]
suppress_warnings = ["misc.highlighting_failure"]  # answers are shortened with "...", which is no JSON

# GitHub's anchors of headings.
myst_heading_anchors = 4
highlight_language = "none"

autodoc_member_order = "bysource"
default_role = "code"  # docstrings mark code with single backticks
maximum_signature_line_length = 100
python_display_short_literal_types = True

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # a browser may not fetch pages from a folder
html_extra_path = ["root"]  # index.html of the folder leads to that of docs/
