"""`dynrefer train`."""

import os
from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[str, typer.Option("--preset", help="What to train; 'embedded' is the one recipe so far.")]
Out = Annotated[Path, typer.Option("--out", help="Directory of the run: log, checkpoints, and the model at the end.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads for arithmetic. [default: all cores]")]


def train_command(out: Out, preset: Preset = "embedded", resume: Resume = False, threads: Threads = None) -> None:
    """Train the embedded model from nothing, on scenes that are drawn for it."""
    if preset != "embedded":
        raise typer.BadParameter(f"--preset {preset} cannot be trained yet; use --preset embedded.")
    # Before torch is loaded: threads that spin while they wait are several times slower on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    import torch

    from model.training.train import train_embedded

    torch.set_num_threads(threads or os.cpu_count() or 1)
    try:
        directory = train_embedded(out, resume=resume)
    except FileExistsError as error:
        raise typer.BadParameter(str(error)) from error
    print(f"{directory}: the finished model; measure it with dynrefer evaluate --model {directory}")
