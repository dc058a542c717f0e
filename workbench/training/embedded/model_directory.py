"""A finished network -> a model directory: configuration, float16 weights, tokenizers, vocabulary and its embeddings,
model card.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynrefer.model.evidence.evidence import FOLDER
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.segmenter.loading import FOLDER as SEGMENTER
from dynrefer.model.vocabulary import embed_vocabulary
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import NOUN_PLACEHOLDER, world_vocabulary

_COLUMNS = 7  # of the card's table of stages
_TRAINED_ON = (
    "the network: synthetic scenes, icon artwork of {categories} kinds of everyday objects on drawn backgrounds, a few "
    "on photographs without labels. Photographs are named by two networks that others trained and that come with it: "
    "EfficientNet-Lite2 on ImageNet-1k and NanoDet-g on COCO 2017"
)
_INTENDED_USE = (
    "naming the clear object of a region in a drawing or a photograph, with its colour where that can be trusted; of "
    "drawings also attributes, relation and scene. Not for the identity of people, text, brands, fine species, crowded "
    "scenes, or decisions about people; a person should check what matters"
)


def export_model(
    model: DynReferModel,
    world: World,
    tokenizers: tuple[Any, Any],
    directory: Path,
    *,
    recipe: Sequence[Mapping[str, Any]],
    earlier: Sequence[str] = (),
) -> Path:
    """Write the model directory and return it. Weights are stored as float16: half the bytes, no measurable difference.

    recipe: the stages that were trained; earlier: rows of the model card for those of the model it started from.
    The revision is a digest of the weights.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = world_vocabulary(world)
    model.vision.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.train(False)
    nn.Module.to(model, torch.float16)  # the embeddings below must come from the weights that are stored
    nn.Module.to(model, torch.float32)
    texts = embed_vocabulary(model, tokenizers[0], vocabulary)
    config = model.config
    config.revision = _digest(model)
    if any(stage["placeholder"] for stage in recipe):
        config.noun_placeholder = NOUN_PLACEHOLDER
    if config.noun_placeholder is not None:
        _add_evidence(config, directory)
    config.trained_on = _TRAINED_ON.format(categories=len(world.categories))
    config.intended_use = _INTENDED_USE
    nn.Module.to(model, torch.float16)
    model.save_pretrained(directory)
    nn.Module.to(model, torch.float32)
    for tokenizer, name in zip(tokenizers, ("text_tokenizer", "language_tokenizer"), strict=True):
        tokenizer.save_pretrained(directory / name)
    vocabulary.save(directory)
    texts.save(directory)
    # It knows nothing of the network, so it stays as it is.
    shutil.copytree(EMBEDDED / SEGMENTER, directory / SEGMENTER, dirs_exist_ok=True)
    (directory / "README.md").write_text(_card(model, world, recipe, earlier))
    return directory


def _add_evidence(config: DynReferConfig, directory: Path) -> None:
    """Evidence of photographs as in the model that ships. Its gate was fitted to the network there; fit it anew with
    `workbench/evidence/gate.py`."""
    shutil.copytree(EMBEDDED / FOLDER, directory / FOLDER, dirs_exist_ok=True)
    config.evidence = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8"))["evidence"]


def _digest(model: DynReferModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _stage_rows(recipe: Sequence[Mapping[str, Any]], earlier: Sequence[str]) -> str:
    """The rows of the card's table; those of a card without the last two columns are filled up."""
    rows = [row + " | |" if row.count("|") == _COLUMNS - 1 else row for row in earlier]
    for stage in recipe:
        cells = [stage[key] for key in ("name", "steps", "scenes", "view_size")]
        marks = ["yes" if stage[key] else "" for key in ("jpeg", "placeholder")]
        rows.append(f"| {' | '.join(str(cell) for cell in [*cells, format(stage['learning_rate'], 'g'), *marks])} |")
    return "\n".join(rows)


def _card(model: DynReferModel, world: World, recipe: Sequence[Mapping[str, Any]], earlier: Sequence[str]) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    stages = _stage_rows(recipe, earlier)
    packs = "\n".join(f"- {p.style}: {p.package} {p.version}, {p.licence}, {p.author}" for p in world.art if p.shipped)
    return f"""# {model.config.name}, revision {model.config.revision}

A DynRefer network scaled down to {parameters:,} parameters, trained from random weights by this project.

**Trained on** {model.config.trained_on}. World `{world.digest[:12]}`.

**Intended use** {model.config.intended_use}. It calls a neighbour "another object" because its training captions do.

**Made by** `dynrefer train --preset embedded --out runs/embedded`, then `python -m dynrefer.workbench.evidence.gate`:

| stage | steps | scenes per batch | view, pixels | learning rate | JPEG | placeholder |
|---|---|---|---|---|---|---|
{stages}

**Photographs** are named by `evidence/`: `tower.onnx` is EfficientNet-Lite2 (Apache-2.0), `detector.onnx` NanoDet-g
(Apache-2.0), `names.json` has the names they can say, from WordNet. Each region is taken for one or the other.

**Points** are answered by `segmenter/`: a U-Net of 625,653 parameters, trained from random weights on the exact masks
of drawn scenes by `python -m dynrefer.workbench.training.segmenter.train`; half of the scenes had surfaces of
photographs. `benchmarks/segmentation.py` measures it.

**Regions** are found by `finder/`: a convolutional network of 3,136,342 parameters, trained from random weights on
drawn scenes that show none of twelve withheld names, by `python -m dynrefer.workbench.training.finder.train`; in
photographs by NanoDet-g. `dynrefer evaluate --finder` measures it.

**Measured by** `dynrefer evaluate --model embedded`, with `--scenes-seed N` and with `--photos DIR`; the results are in
`benchmarks/`.

**Artwork** in the training scenes (details in NOTICE):

{packs}

**Licence** Apache-2.0 for the weights and the code; the artwork keeps its own.
"""
