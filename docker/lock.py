"""Write the lock files of the images: `make lock`, after pyproject.toml or requirements.txt has changed.

`uv pip compile` resolves what the service needs in production, for Linux and the images' Python, with the versions of
requirements.txt and the hash of every file. The result is split, because the CPU build of torch is on a separate index:
requirements.txt has everything but torch, requirements-cuda.txt torch's default build and the CUDA libraries and
compilers that only it needs. requirements-cpu.txt names the CPU build of the same version, without hashes: its files
differ from index to index.

requirements-ray.txt has what Ray adds to them, for the image of `docker/ray/rayservice.yaml`.

requirements-uv.txt has the program that finds that index, requirements-tools.txt what writes the image's inventory; the
build runs both, and the image holds neither.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
# The service; traces are off until an endpoint is set, MCP until it is switched on, the shared cache until it is named.
EXTRAS = ("serve", "trace", "mcp", "redis")
PYTHON = "3.11"
PLATFORM = "x86_64-manylinux_2_28"
ONLY_WITH_CUDA = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
UV = ("uv==0.13.9",)
TOOLS = ("cyclonedx-bom==7.5.0", "pip-licenses==5.5.5")
HEAD = "# Written by `make lock` (docker/lock.py); do not edit.\n"


def resolve(*source: str, given: str | None = None) -> str:
    """The whole lock, as uv writes it, without comments. Exits with an error if uv finds no solution.

    source: the input and its options, of `uv pip compile`. given: what it reads from standard input, "-".
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lock.txt"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", *source, "--quiet", "--output-file", str(out)),
                *("--python-version", PYTHON, "--python-platform", PLATFORM),
                *("--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
            ],
            cwd=ROOT,
            input=given,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit("uv found no solution; see its message above.")
        return out.read_text(encoding="utf-8")


def lock_tools(*requirements: str) -> str:
    """The text of a lock file for programs that only the build runs, with all that they need."""
    return HEAD + resolve("-", given="\n".join(requirements))


def resolve_project(*extras: str) -> list[str]:
    """The entries of the lock of the project with these extras, in the versions of requirements.txt."""
    chosen = [word for extra in extras for word in ("--extra", extra)]
    lock = resolve("pyproject.toml", *chosen, "--constraint", "requirements.txt")
    return re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]


def added(to: list[str], entries: list[str]) -> str:
    """The text of a lock file for what is installed after `to`. Exits with an error if that needs other versions."""
    if missing := [entry.split()[0] for entry in to if entry not in entries]:
        raise SystemExit(f"With it the image would need other versions of {', '.join(missing)}.")
    return HEAD + "".join(entry for entry in entries if entry not in to)


def split(entries: list[str]) -> tuple[str, str, str]:
    """The lock's entries as (for every image, for CUDA, for the CPU), each the text of a file."""
    cuda = [entry for entry in entries if ONLY_WITH_CUDA.match(entry)]
    shared = [entry for entry in entries if entry not in cuda]
    torch = next(entry for entry in cuda if entry.startswith("torch=="))
    version = torch.split("==")[1].split()[0]
    # Three equals signs: "==" would also match a build with a local version, such as +cpu.
    default = [entry.replace("torch==", "torch===", 1) if entry is torch else entry for entry in cuda]
    return HEAD + "".join(shared), HEAD + "".join(default), f"{HEAD}torch=={version}+cpu\n"


def main() -> None:
    """Rewrite the files."""
    plain = resolve_project(*EXTRAS)
    shared, cuda, cpu = split(plain)
    ray = added(plain, resolve_project(*EXTRAS, "ray"))
    locks = {"": shared, "-cuda": cuda, "-cpu": cpu, "-ray": ray, "-uv": lock_tools(*UV), "-tools": lock_tools(*TOOLS)}
    for ending, text in locks.items():
        (HERE / f"requirements{ending}.txt").write_text(text, encoding="utf-8")
        print(f"docker/requirements{ending}.txt: {text.count('==')} packages")


if __name__ == "__main__":
    main()
