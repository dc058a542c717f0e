"""The documentation readers are as npm has them, and keep their licences."""

import hashlib

import pytest

from tests.repository import ROOT
from tests.service.playground.vendored import PACKAGES, STATIC, Package

parametrize = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


@parametrize
def test_files_are_as_their_package_has_them(package: Package) -> None:
    found = {path: hashlib.sha256(package.shipped(path).read_bytes()).hexdigest() for path in package.files}
    assert found == dict(package.files), "edited by hand? `make vendor` writes them again"
    assert {path.name for path in (STATIC / package.folder).iterdir()} == {
        package.shipped(path).name for path in package.files
    }


@parametrize
def test_licences_lie_beside_the_files_and_are_noted(package: Package) -> None:
    assert any("LICENSE" in path for path in package.files)
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert f"service/playground/static/{package.folder} holds {package.name} {package.version}" in notice


@parametrize
def test_nothing_is_loaded_from_other_hosts(package: Package) -> None:
    """Addresses of pages and schemas are words; those of content networks are loaded."""
    scripts = [package.shipped(path).read_text(encoding="utf-8") for path in package.files if path.endswith(".js")]
    assert scripts and not [word for word in ("cdn.", "unpkg.com", "jsdelivr") for text in scripts if word in text]
