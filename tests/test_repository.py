"""What the repository itself has to keep to."""

import shutil
import subprocess

import pytest

from tests.repository import ROOT

MOST_BYTES = 91_000_000  # the weights of the embedded converser are 5 MB of it, its vectors of words 3 MB


def tracked_bytes() -> dict[str, int]:
    """Path -> size of every tracked file, as it lies in the working tree."""
    # A checkout of another user's, as CI may have one, is no reason to refuse to list it.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = {name: ROOT / name for name in listed.split("\0") if name}
    return {name: path.lstat().st_size for name, path in paths.items() if path.is_symlink() or path.is_file()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: nothing says what is tracked")
def test_what_is_tracked_stays_small() -> None:
    assert shutil.which("git"), "git is needed to list what is tracked"
    sizes = tracked_bytes()
    total = sum(sizes.values())
    largest = ", ".join(
        f"{name} {size / 1e6:.1f}" for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:5]
    )
    print(f"\n{len(sizes)} files, {total / 1e6:.1f} MB; largest: {largest} MB")
    assert 0 < total < MOST_BYTES, f"{total / 1e6:.1f} MB are tracked; largest: {largest} MB"
