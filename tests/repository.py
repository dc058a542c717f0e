"""Where the checkout lies, for tests that read its files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "images"
