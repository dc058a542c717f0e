"""A finished run -> a model directory that `dynrefer serve --model DIR` loads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dynrefer.model.convert.weight_files import open_weights, write_shards
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.initial_model import InitialModel, add_lora, load_initial_model, merge_lora
from dynrefer.workbench.training.run_settings import TrainingSettings

_TOKENIZERS = ("text_tokenizer", "language_tokenizer")


@dataclass(frozen=True)
class FinishedRun:
    """The facts about a run that its model card states."""

    settings: TrainingSettings
    steps: int
    regions: int
    processes: int
    losses: Mapping[str, float]


def export_run(initial: InitialModel, trained: Mapping[str, Tensor], finished: FinishedRun, out: Path) -> Path:
    """Write `out`, whole or not at all: trained weights as float32, all others bit for bit as in the initial model.

    trained: name in the network -> tensor, with LoRA's matrices, which are merged. Calibration is left out because it
    was fitted to the old weights. Raises `TrainingError` if `out` cannot be written.
    """
    new = _merged(trained, finished.settings) if finished.settings.lora_rank else trained
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        revision = _write_weights(initial.directory, new, partial)
        _write_assets(initial, finished, revision, partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.replace(out)
    except OSError as error:
        raise TrainingError(f"cannot write {out}: {error.strerror or error}.") from error
    return out


def _merged(trained: Mapping[str, Tensor], settings: TrainingSettings) -> dict[str, Tensor]:
    """`trained` with LoRA's matrices merged into the weights that they belong to."""
    network = load_initial_model(settings.init).network
    add_lora(network, settings.lora_rank, settings.lora_alpha or 2.0 * settings.lora_rank)
    network.load_state_dict(dict(trained), strict=False)
    changed = merge_lora(network)
    return {name: value for name, value in network.state_dict().items() if name in trained or name in changed}


def _write_weights(directory: Path, trained: Mapping[str, Tensor], folder: Path) -> str:
    files = [open_weights(path) for path in sorted(directory.glob("model*.safetensors"))]  # not the text embeddings
    stored = {name: file for file in files for name in file.shapes}

    def assemble(name: str) -> Tensor:
        return trained[name].to(torch.float32) if name in trained else stored[name].read(name)

    return write_shards(folder, stored, assemble)


def _write_assets(initial: InitialModel, finished: FinishedRun, revision: str, folder: Path) -> None:
    config = initial.network.config
    before = f"{config.name}, revision {config.revision}"
    config.trained_on = (
        f"{config.trained_on}; then {finished.regions:,} regions of {finished.settings.train.name}, "
        f"{finished.steps:,} steps from revision {config.revision}"
    )
    config.revision, config.calibration, config.dtype = revision, {}, "float32"
    config.thresholds.pop(
        "attributes", None
    )  # fitted to the old weights, as the calibration was; a threshold for tags must stay
    # A user's captions hold their nouns, and what the region is comes from the user's labels.
    config.noun_placeholder = config.evidence = None
    config.save_pretrained(folder)
    for name in _TOKENIZERS:
        shutil.copytree(initial.directory / name, folder / name)
    initial.vocabulary.save(folder)
    initial.texts.save(folder)
    (folder / "README.md").write_text(_card(config.name, revision, before, finished), encoding="utf-8")


def _card(name: str, revision: str, before: str, finished: FinishedRun) -> str:
    settings = finished.settings
    per_step = settings.batch_size * settings.accumulate * finished.processes
    losses = "\n".join(f"| {term} | {value:.4f} |" for term, value in finished.losses.items())
    return f"""# {name}, revision {revision}

Trained by `dynrefer train` from {before}.

**Trained on** {finished.regions:,} regions of `{settings.train.name}`: {finished.steps:,} steps of {per_step} regions.

**Probabilities** are not calibrated: the initial model's calibration was fitted to its old weights and is left out.
`dynrefer evaluate --data` measures the error; `--tune`, which fits calibration and thresholds, works on drawn scenes
only.

| last loss | |
|---|---|
{losses}

**Licence** that of the initial model and of the data; this project adds none.
"""
