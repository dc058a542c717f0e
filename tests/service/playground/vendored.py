"""The documentation readers that the service ships, and `python -m tests.service.playground.vendored`, which fetches
them again from npm (`make vendor`).

A package is taken in one pinned version, whose checksum is the registry's; the files that it leaves have checksums of
their own, so that none is edited by hand: `test_vendored.py`. To move to another version, change both, and read what
changed in between; the browser tests (`tests/browser/test_docs_pages.py`) say whether the pages still work.
"""

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dynrefer.service.playground import HERE

STATIC = HERE / "static"


@dataclass(frozen=True)
class Package:
    """An npm package of which some files are shipped.

    integrity: of its tarball, as npm writes it. folder: below the pages' static files. files: path in the package ->
    SHA-256 of the file as it is shipped, under its own name. replaced: text -> what stands there instead.
    """

    name: str
    version: str
    integrity: str
    folder: str
    files: Mapping[str, str]
    replaced: Mapping[bytes, bytes] = field(default_factory=dict)

    def shipped(self, path: str) -> Path:
        """Where a file of the package lies."""
        return STATIC / self.folder / Path(path).name


PACKAGES = (
    Package(
        "swagger-ui-dist",
        "5.35.0",
        "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==",
        "swagger",
        {
            "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
            "swagger-ui-bundle.js.LICENSE.txt": "37eb6e7e59aed57b2c1acf076574b818ea07b74265717e0bd67b59e0baf9abbb",
            "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
            "favicon-32x32.png": "3ed612f41e050ca5e7000cad6f1cbe7e7da39f65fca99c02e99e6591056e5837",
            "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
            "NOTICE": "0d20d1adef18aee3f40dd258172155521ce702ac445cb5f7b7d60ed32dad2fb2",
        },
    ),
    # Version 3 was tried: it is twice as large, sends usage data unless it is told not to, and puts a menu that opens
    # the page at two companies' chat services on every heading, which no option removes. 2.5 is still maintained.
    Package(
        "redoc",
        "2.5.4",
        "sha512-M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ==",
        "redoc",
        {
            "bundles/redoc.standalone.js": "f8eb4fc7a77cec6a4d2c51ac9b1c763053e923ed719b03ab0c396eb38f975327",
            "bundles/redoc.standalone.js.LICENSE.txt": (
                "eed602ec32e00b2b9df1984fbcc26a687b1b3193ec01961389c4b8439e6edf73"
            ),
            "LICENSE": "d3026d549cf68ab7355bcfa85877bf8f845b3334a7efbfdc63936432fb34ff0e",
        },
        # A logo beside the words "API docs by Redocly", which is hidden where it cannot be loaded; and a source map
        # that is not shipped.
        {
            b"https://cdn.redoc.ly/redoc/logo-mini.svg": b"data:,",
            b"\n//# sourceMappingURL=redoc.standalone.js.map": b"",
        },
    ),
)


def fetch(package: Package, folder: Path) -> None:
    """Write the package's files. Raises ValueError where something is not what its checksum says."""
    wanted = f"{package.name}@{package.version}"
    subprocess.run(["npm", "pack", "--silent", wanted], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (tarball,) = folder.glob(f"{package.name}-*.tgz")
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise ValueError(f"{wanted} has another checksum: sha512-{digest}")
    (STATIC / package.folder).mkdir(exist_ok=True)
    with tarfile.open(tarball) as archive:
        for path, expected in package.files.items():
            member = archive.extractfile(f"package/{path}")
            assert member is not None, path
            data = member.read()
            for text, other in package.replaced.items():
                data = data.replace(text, other)
            if (found := hashlib.sha256(data).hexdigest()) != expected:
                raise ValueError(f"{path} of {wanted} has another checksum: {found}")
            package.shipped(path).write_bytes(data)


def main() -> None:
    """The command."""
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                fetch(package, Path(folder))
            except (ValueError, OSError, subprocess.CalledProcessError) as error:
                sys.exit(f"{package.name}: {error}")


if __name__ == "__main__":
    main()
