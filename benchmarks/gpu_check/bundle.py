"""`make gpu-bundle`: one file with all that a machine with a GPU, torch and no network needs for `make gpu-check`.

    python -m benchmarks.gpu_check.bundle [--out build/gpu-bundle.tar.xz] [--python 3.12]
    # there:  tar xf gpu-bundle.tar.xz && cd gpu-bundle && make gpu-check

It holds the tracked files that the check reads, and wheels for Linux on x86-64 of what the service needs and torch does
not bring. Wheels are stored without their own compression, because that of the whole file is better by a third.
`--present` leaves out what the other machine has in a version that will do; `--ray` adds Ray, for the part `scale_out`.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.profiling.machine import COMMIT_FILE, ROOT, commit

MOST_BYTES = 66_000_000
NAME, WHEELS = "gpu-bundle", "wheels"
# Torch and what comes with it; what ImageHash imports only for hashes that are not ours; what huggingface-hub uses only
# for downloads; what signs tokens of clients, for MCP; the extra `trace`.
LEFT_OUT = re.compile(
    r"(torch|numpy|sympy|mpmath|networkx|jinja2|markupsafe|fsspec|filelock|typing-extensions|setuptools"
    r"|scipy|pywavelets|hf-xet|cryptography|cffi|pycparser"
    r"|opentelemetry-(exporter|instrumentation|proto|sdk|semantic|util).*|asgiref|wrapt|googleapis-common-protos)"
)
# Of the tracked files. The scene is what the check describes.
NOT_NEEDED = re.compile(
    r"docs/(?!images/scene\.png$)|tests/(goldens|recorded|parity|service)/|workbench/scenes/.*\.zip$|benchmarks/(photographs/(?!tourist)|results/(?!gpu-))"
    r"|docker/|Dockerfile$|\."
)
LINUX = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
# What Ray Serve imports in a cluster without a dashboard, in the versions that are installed here.
RAY = (
    "ray",
    "colorful",
    "grpcio-reflection",
    "mmh3",
    "opencensus",
    "opencensus-context",
    "google-api-core",
    "google-auth",
)
RAY += (
    "googleapis-common-protos",
    "proto-plus",
    "pyasn1",
    "pyasn1-modules",
    "opentelemetry-sdk",
    "opentelemetry-proto",
)
RAY += (
    "opentelemetry-semantic-conventions",
    "opentelemetry-exporter-prometheus",
    "aiohttp-cors",
    "smart-open",
    "watchfiles",
)
# Of Ray's wheel: Java, reinforcement learning, the dashboard's page, C++ headers.
NOT_OF_RAY = re.compile(r"ray/(jars|rllib|dashboard/client|cpp|include)/")
GetWheels = Callable[[Sequence[str], str, Path], None]


def requirements(present: Sequence[str] = (), ray: bool = False) -> list[str]:
    """What the wheels are of, "name==version": the image's lock file without `LEFT_OUT` and what is present there."""
    lock = (ROOT / "docker" / "requirements.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9._-]+)(==[^\s;\\]+)", lock, flags=re.MULTILINE)
    found = [name + pin for name, pin in pinned if not LEFT_OUT.fullmatch(name) and name not in present]
    return [*found, *(f"{name}=={version(name)}" for name in RAY if name not in present)] if ray else found


def files() -> list[str]:
    """The tracked files that travel, relative to the checkout; symbolic links among them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path and not NOT_NEEDED.match(path)]


def download(wanted: Sequence[str], python: str, folder: Path) -> None:
    """Put the wheels into a folder, for Linux on x86-64 and this version of Python."""
    abi = f"cp{python.replace('.', '')}"
    options = [f"--platform={each}" for each in LINUX] + [f"--abi={each}" for each in (abi, "abi3", "none")]
    options += ["--implementation=cp", f"--python-version={python}", "--only-binary=:all:", "--no-deps", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *wanted], check=True)


def write(
    out: Path,
    python: str,
    get_wheels: GetWheels = download,
    most_bytes: int = MOST_BYTES,
    wanted: Sequence[str] | None = None,
) -> dict[str, int]:
    """Write the bundle; what is in it, by folder or wheel, in bytes. Raises SystemExit where it is too large.

    wanted: what wheels are of; None: `requirements`.
    """
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch, write_atomically(out) as temporary:
        get_wheels(requirements() if wanted is None else wanted, python, Path(scratch))
        with tarfile.open(temporary, "w:xz") as bundle:
            for path in files():
                bundle.add(ROOT / path, f"{NAME}/{path}", recursive=False)
                sizes[path.split("/")[0]] = sizes.get(path.split("/")[0], 0) + (ROOT / path).lstat().st_size
            _add(bundle, COMMIT_FILE, commit().encode())
            for wheel in sorted(Path(scratch).glob("*.whl")):
                _add(bundle, f"{WHEELS}/{wheel.name}", uncompressed(wheel))
                sizes[wheel.name] = wheel.stat().st_size
        size = temporary.stat().st_size
        if size > most_bytes:
            raise SystemExit(
                f"the bundle has {size / 1e6:.1f} MB, more than {most_bytes / 1e6:g}; name with --present what the "
                "other machine has."
            )
    return sizes


def uncompressed(wheel: Path) -> bytes:
    """The same wheel with every file as it is; of Ray's, those that are needed."""
    found = io.BytesIO()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as new:
        for each in old.infolist():
            if NOT_OF_RAY.match(each.filename):
                continue
            content = old.read(each)
            each.compress_type = zipfile.ZIP_STORED
            new.writestr(each, content)
    return found.getvalue()


def _add(bundle: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"{NAME}/{name}")
    entry.size, entry.mode = len(content), 0o644
    bundle.addfile(entry, io.BytesIO(content))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check.bundle", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / f"{NAME}.tar.xz", help="[%(default)s]")
    parser.add_argument("--python", default="3.12", help="the other machine's version [%(default)s]")
    parser.add_argument("--present", nargs="+", default=(), metavar="NAME", help="packages that are there already")
    parser.add_argument("--ray", action="store_true", help="with Ray, for the part scale_out")
    given = parser.parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    sizes = write(given.out, given.python, wanted=requirements(given.present, given.ray))
    for name, size in sorted(sizes.items(), key=lambda each: -each[1]):
        print(f"{size / 1e6:7.2f} MB  {name}")
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
