"""The settings of a run: the recipe's defaults, their checks, and which of them a resumed run may change.

Source of the defaults: the released configuration for Visual Genome v1.2 (its intent: warm-up, then a cosine).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.workbench.errors import SettingError

CHOICES: Mapping[str, tuple[str, ...]] = {
    "box_format": ("auto", "xywh", "xyxy"),
    "frame": ("auto", "upright", "stored"),
    "schedule": ("cosine", "official"),
    "precision": ("auto", "float32", "bf16"),
    "controls": ("vocabulary", "part-of-speech"),
}
UNFREEZABLE = ("vision", "language")
_MINIMUM: Mapping[str, int] = {
    **{"epochs": 1, "batch_size": 1, "accumulate": 1, "checkpoint_every": 1, "keep": 1, "log_every": 1},
    **{"validate_every": 1, "val_limit": 1, "workers": 0, "threads": 1, "warm_up": 0, "lora_rank": 0, "seed": 0},
}
_POSITIVE = ("learning_rate", "lora_alpha")
_NOT_NEGATIVE = ("weight_decay", "clip_norm", "tag_gamma")
_FILES = ("train", "val", "captions", "val_captions", "vocabulary")
_FOLDERS = ("images", "val_images")
# A resumed run may change these: they affect neither the weights nor the data that they are trained on.
CHANGEABLE = frozenset(
    {
        *("workers", "threads", "device", "checkpoint_every", "keep", "log_every"),
        *("val", "val_images", "val_captions", "validate_every", "val_limit"),
    }
)


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that a run depends on besides the files' contents.

    train: COCO-style JSON. images: folder of the images; None: the file's own `dataset.image_root`. captions: JSONL
    for a plain COCO file. val*: the same for validation. init: "embedded" or a model directory to start from.
    preset: the sizes that it must have, or None. vocabulary: a vocabulary.json in place of the model's.
    box_format: of `bbox`, where there is no segmentation; "auto": xyxy beside `extra_info`, else xywh.
    batch_size: regions per process and forward pass. accumulate: forward passes per optimiser step.
    frame: of the boxes of images with an EXIF orientation; "auto": by the boxes and the listed sizes.
    schedule: "cosine" per step after the warm-up, or "official" (constant within an epoch, no warm-up).
    warm_up: steps; None: 5,000, or a tenth of the run if that is less. clip_norm: 0 is off, as in the recipe.
    tag_gamma: focusing exponent of the asymmetric loss for absent tags. lora_rank: 0 is off; lora_alpha None: twice
    the rank. unfreeze: parts that are trained beyond the recipe's. checkpoint_every, validate_every, log_every:
    optimiser steps; validate_every None: once per epoch. keep: number of checkpoints kept. val_limit: regions per
    validation. workers: processes that read images, per training process; None: as the cores allow.
    """

    train: Path
    images: Path | None = None
    captions: Path | None = None
    val: Path | None = None
    val_images: Path | None = None
    val_captions: Path | None = None
    init: str = "embedded"
    preset: str | None = None
    vocabulary: Path | None = None
    box_format: str = "auto"
    frame: str = "auto"
    epochs: int = 5
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warm_up: int | None = None
    clip_norm: float = 0.0
    tag_gamma: float = 7.0
    precision: str = "auto"
    device: str = "auto"
    gradient_checkpointing: bool = False
    fsdp: bool = False
    lora_rank: int = 0
    lora_alpha: float | None = None
    unfreeze: tuple[str, ...] = ()
    controls: str = "vocabulary"
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    validate_every: int | None = None
    val_limit: int = 2000
    log_every: int = 10
    workers: int | None = None
    threads: int | None = None

    def check(self) -> None:
        """Raise `SettingError` for the first setting that cannot be honoured."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingError(f"{flag(name)} {getattr(self, name)} is unknown; use {' or '.join(choices)}.")
        for name, least in _MINIMUM.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingError(f"{flag(name)} {value} is too small; give a whole number of at least {least}.")
        for name in (*_POSITIVE, *_NOT_NEGATIVE):
            _check_number(name, getattr(self, name), positive=name in _POSITIVE)
        for part in self.unfreeze:
            if part not in UNFREEZABLE:
                raise SettingError(f"--unfreeze {part} is not a part that is frozen; use {' or '.join(UNFREEZABLE)}.")
        self._check_paths()
        self._check_combinations()

    def _check_paths(self) -> None:
        for name in _FILES:
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise SettingError(f"{flag(name)} {path} is not a file that exists.")
        for name in _FOLDERS:
            path = getattr(self, name)
            if path is not None and not path.is_dir():
                raise SettingError(f"{flag(name)} {path} is not a folder that exists.")

    def _check_combinations(self) -> None:
        if self.schedule == "official" and self.warm_up:
            raise SettingError("--schedule official has no warm-up; leave out --warm-up or use --schedule cosine.")
        if self.val is None:
            for name in ("val_images", "val_captions", "validate_every"):
                if getattr(self, name) is not None:
                    raise SettingError(f"{flag(name)} needs --val, the annotations to validate on.")
        if self.lora_alpha is not None and not self.lora_rank:
            raise SettingError("--lora-alpha needs --lora-rank, the rank of the added matrices (the recipe's is 64).")
        if self.lora_rank and "language" in self.unfreeze:
            raise SettingError("--lora-rank and --unfreeze language exclude each other; choose one.")

    def as_json(self) -> dict[str, Any]:
        """The settings as plain values; paths are absolute, so that a run may be resumed from another folder."""
        found: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            found[name] = str(value.absolute()) if isinstance(value, Path) else value
        if self.init != "embedded":
            found["init"] = str(Path(self.init).absolute())
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # json gives Any


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def new_settings(given: Mapping[str, Any]) -> TrainingSettings:
    """Settings of a new run: the defaults, replaced by those given; checked."""
    if "train" not in given:
        raise SettingError("--train is missing: name the COCO-style annotations to train on.")
    settings = TrainingSettings(**given)
    settings.check()
    return settings


def resumed_settings(given: Mapping[str, Any], stored: Mapping[str, Any]) -> TrainingSettings:
    """Settings of a resumed run: the stored ones, replaced by those given.

    Raises `SettingError` for a given setting that differs from the stored one and may not change.
    """
    kept = {name: _parsed(name, value) for name, value in stored.items()}
    defaults = TrainingSettings(train=kept["train"]).as_json()
    requested = TrainingSettings(**{"train": kept["train"], **given}).as_json()
    for name in given:
        began = stored.get(name, defaults.get(name))  # a setting that came later than the run
        if name not in CHANGEABLE and requested[name] != began:
            raise SettingError(
                f"{flag(name)} is {given[name]} but the run began with {began}; a resumed run keeps it: "
                "leave the flag out, or start a new run with another --out."
            )
    settings = TrainingSettings(**{**kept, **given})
    settings.check()
    return settings


def _parsed(name: str, value: Any) -> Any:
    if name in (*_FILES, *_FOLDERS) and value is not None:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def _check_number(name: str, value: float | None, *, positive: bool) -> None:
    if value is None:
        return
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise SettingError(f"{flag(name)} {value} must be a finite number, {'above 0' if positive else '0 or more'}.")


def check_packages(settings: TrainingSettings) -> None:
    """Raise `SettingError` for a missing package of the extra `train` that these settings need."""
    needed = {
        "tensorboard": "training on data",
        **({"peft": "--lora-rank"} if settings.lora_rank else {}),
        **({"textblob": "--controls part-of-speech"} if settings.controls == "part-of-speech" else {}),
    }
    for package, purpose in needed.items():
        if importlib.util.find_spec(package) is None:
            raise SettingError(f"{purpose} needs the package {package}; install it with pip install 'dynrefer[train]'.")
