"""A run of the finder's training -> the files that ship, weights as float16.

    python -m dynrefer.workbench.training.finder.export --run runs/finder --out model/embedded/finder

What a configuration that is there already says beside the network and its names is kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from dynrefer.model.networks.convolutional_weights import shipped_tensors
from dynrefer.model.networks.finder.network import FinderNetwork
from dynrefer.model.networks.finder.weights import CONFIG, WEIGHTS, network_settings
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.export_command import export_command
from dynrefer.workbench.training.finder.train import trained_names


def export(run: Path, out: Path) -> Path:
    """Write a run's weights, the running mean; returns the file."""
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    state, names = checkpoint["mean"], checkpoint.get("names", trained_names(World.load()))
    network = FinderNetwork()
    tensors = {name: state[name].to(torch.float16).contiguous() for name in shipped_tensors(network)}
    out.mkdir(parents=True, exist_ok=True)
    path = out / CONFIG
    settings = json.loads(path.read_text()) if path.is_file() else {}
    settings |= {"network": network_settings(network.config), "names": list(names)}
    replace_text(path, json.dumps(settings, indent=2) + "\n")
    save_file(tensors, out / WEIGHTS)
    return out / WEIGHTS


def main() -> None:
    """The command; the head of this file says what it does."""
    export_command("finder", export)


if __name__ == "__main__":
    main()
