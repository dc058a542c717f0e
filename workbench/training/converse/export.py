"""A run of the converser's training -> the files that ship, weights as float16.

    python -m dynrefer.workbench.training.converse.export --run runs/converse --out model/embedded/converser

Calibration that is there already is kept; `calibrate` fits it to the new weights. So are the words' vectors; a new
folder gets those of the embedded model, which the training reads.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from dynrefer.model.loading import model_directory
from dynrefer.model.networks.converse.embedded.files import (
    CONFIG,
    MODEL_TYPE,
    VOCABULARY,
    WEIGHTS,
)
from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS
from dynrefer.model.networks.converse.loading import FOLDER
from dynrefer.workbench.data.atomic import replace_text, write_atomically
from dynrefer.workbench.training.converse.run import CHECKPOINT
from dynrefer.workbench.training.export_command import export_command


def export(run: Path, out: Path) -> Path:
    """Write a run's weights, the running mean; returns the file."""
    state = torch.load(run / CHECKPOINT, weights_only=True)
    tensors = {name: value.to(torch.float16).contiguous() for name, value in state["mean"].items()}
    out.mkdir(parents=True, exist_ok=True)
    path = out / CONFIG
    settings = json.loads(path.read_text()) if path.is_file() else {"calibration": {}}
    settings |= {"model_type": MODEL_TYPE, "network": state["config"]}
    if not (out / WORD_VECTORS).exists():
        with write_atomically(out / WORD_VECTORS) as temporary:
            shutil.copyfile(model_directory("embedded") / FOLDER / WORD_VECTORS, temporary)
    replace_text(out / VOCABULARY, (run / VOCABULARY).read_text(encoding="utf-8"))
    replace_text(path, json.dumps(settings, indent=2) + "\n")
    with write_atomically(out / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    return out / WEIGHTS


def main() -> None:
    """The command; the head of this file says what it does."""
    export_command("converser", export)


if __name__ == "__main__":
    main()
