"""A run of the segmenter's training -> the weights that ship, as float16.

python -m dynrefer.workbench.training.segmenter.export --run runs/segmenter --out model/embedded/segmenter
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from dynrefer.model.networks.convolutional_weights import shipped_tensors
from dynrefer.model.networks.segmenter.network import MaskHead
from dynrefer.model.networks.segmenter.small import WEIGHTS
from dynrefer.workbench.training.export_command import export_command


def export(run: Path, out: Path) -> Path:
    """Write a run's weights; returns the file."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)["network"]
    tensors = {name: state[name].to(torch.float16).contiguous() for name in shipped_tensors(MaskHead())}
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / WEIGHTS)
    return out / WEIGHTS


def main() -> None:
    """The command; the head of this file says what it does."""
    export_command("segmenter", export)


if __name__ == "__main__":
    main()
