"""The command line of those parts of the embedded model that a training run exports into a folder."""

import argparse
from collections.abc import Callable
from pathlib import Path


def export_command(part: str, export: Callable[[Path, Path], Path]) -> None:
    """Read --run and --out, export, and say which file was written. export: (run, out) -> the file of the weights."""
    parser = argparse.ArgumentParser(description=f"Export the {part}'s weights.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args()
    file = export(options.run, options.out)
    print(f"{file}: {file.stat().st_size:,} bytes")
