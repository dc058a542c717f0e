"""Reads what the official code was recorded to compute (tests/goldens)."""

import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dynrefer.model.networks.dynrefer.vision import VisionFeatures


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of `name`.safetensors, or of `name`.npz, which holds the same ones in less space."""
    packed = folder / f"{name}.npz"
    if not packed.is_file():
        return load_file(folder / f"{name}.safetensors")
    with np.load(packed) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def features_of(tokens: Tensor) -> VisionFeatures:
    """Feature maps from the tower's tokens (N, 1 + P, C), class token first."""
    cls, patches = tokens[:, 0], tokens[:, 1:]
    side = math.isqrt(patches.shape[1])
    return VisionFeatures(patches.transpose(1, 2).unflatten(2, (side, side)), cls)


def has_photographs(folder: Path) -> bool:
    """Whether this is the complete folder, with the photographs that were described, and the views cut out of them."""
    return (folder / "photos").is_dir() and (folder / "region_images_u8.npz").is_file()


def attribute_places(texts: dict[str, Any]) -> list[int]:
    """Which of the recorded attributes text_lists.json names: all of them in the complete folder."""
    return list(texts.get("attribute_places", range(len(texts["att_len_synonyms"]))))


def attribute_prompts(texts: dict[str, Any]) -> list[list[str]]:
    """The prompts of every attribute that is named."""
    prompts = iter(texts["attribute_texts"])
    return [[next(prompts) for _ in range(texts["att_len_synonyms"][place])] for place in attribute_places(texts)]


def prompt_rows(texts: dict[str, Any]) -> list[int]:
    """Which of all recorded prompts are those of the attributes that are named."""
    starts = [0, *accumulate(texts["att_len_synonyms"])]
    return [row for place in attribute_places(texts) for row in range(starts[place], starts[place + 1])]
