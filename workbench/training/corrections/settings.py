"""The settings of a run of `dynrefer train --from-corrections`, and their checks."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.model.types import Task
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.corrections.representations import LEAST_PLANS
from dynrefer.workbench.training.corrections.split import HELD_OUT
from dynrefer.workbench.training.run_settings import flag

HEADS, LORA = "heads", "lora"
TASKS = tuple(task.value for task in (Task.CAPTION, Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES))
# A resumed run may change these: they affect neither what is learned nor what is compared.
CHANGEABLE = frozenset({"threads", "device", "server", "key", "checkpoint_every"})
_PACKAGES = {
    "train": {"peft": "--what lora"},
    "evaluate": {"sklearn": "the comparison", "scipy": "the calibration", "pycocoevalcap": "the comparison"},
}
_LEAST = {"steps": 1, "batch_size": 2, "lora_rank": 1, "seed": 0, "benchmark_regions": 0, "checkpoint_every": 1}


@dataclass(frozen=True)
class CorrectionSettings:
    """One run.

    folder: of the corrections. model: embedded or a directory, the running model. what: "heads" (decoders of tags,
    attributes and categories), "lora" (the language model's captions) or both. steps: of each of them. rehearsal:
    proportion of every batch that is drawn scenes, for a model that knows them. blend: how far the decoders' weights go
    from those of before, 0, to the tuned ones, 1 (arXiv 2109.01903: in between is most of the gain for little of the
    loss). held_out: proportion of the images.
    add_words: whether words that the model lacks become words of its vocabulary. expect_change: tasks whose convention
    the corrections change on purpose. plans: choices of views per region. benchmark_regions: of the drawn benchmark.
    server: of the service that runs the model, whose revision must be the model's.
    """

    folder: Path
    model: str = "embedded"
    what: tuple[str, ...] = (HEADS,)
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 5e-4
    lora_rank: int = 16
    lora_alpha: float | None = None
    rehearsal: float = 0.5
    blend: float = 0.5
    held_out: float = HELD_OUT
    add_words: bool = False
    expect_change: tuple[str, ...] = ()
    without_comparison: bool = False
    plans: int = 4
    benchmark_regions: int = 500
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    checkpoint_every: int = 100
    server: str | None = None
    key: str | None = dataclasses.field(default=None, repr=False)

    def check(self) -> None:
        """Raise `SettingError` for a value that cannot be honoured."""
        for name, allowed in (("what", (HEADS, LORA)), ("expect_change", TASKS)):
            for value in getattr(self, name):
                if value not in allowed:
                    raise SettingError(f"{flag(name)} {value} is not one of {', '.join(allowed)}.")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise SettingError(f"{flag(name)} must be at least {least}.")
        if self.plans < LEAST_PLANS:
            raise SettingError(f"--plans must be at least {LEAST_PLANS}: two that answers use, and a random one.")
        for name in ("learning_rate", "lora_alpha"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SettingError(f"{flag(name)} {value} must be a finite number above 0.")
        if not 0 <= self.rehearsal < 1:
            raise SettingError(f"--rehearsal {self.rehearsal:g} must be 0 or more and below 1.")
        if not 0 < self.blend <= 1:
            raise SettingError(f"--blend {self.blend:g} must be above 0 and at most 1.")
        if not 0 < self.held_out < 1:
            raise SettingError(f"--held-out {self.held_out:g} must be above 0 and below 1.")
        self._check_packages()

    def _check_packages(self) -> None:
        for extra, packages in _PACKAGES.items():
            for package, purpose in packages.items():
                needed = LORA in self.what if package == "peft" else True
                if needed and importlib.util.find_spec(package) is None:
                    raise SettingError(f"{purpose} needs the package {package}; pip install 'dynrefer[{extra}]'.")

    def as_json(self) -> dict[str, Any]:
        """Plain values; paths are absolute, so that a run may be resumed from another folder. No key is written."""
        found = {name: value for name, value in dataclasses.asdict(self).items() if name != "key"}
        found["folder"] = str(self.folder.absolute())
        if self.model != "embedded":
            found["model"] = str(Path(self.model).absolute())
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # json gives Any


def from_flags(given: Mapping[str, Any]) -> CorrectionSettings:
    """Checked settings of the flags that were given."""
    named: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    settings = CorrectionSettings(**named)
    settings.check()
    return settings


def resumed(given: Mapping[str, Any], stored: Mapping[str, Any]) -> CorrectionSettings:
    """The stored settings, replaced by what may change. Raises `SettingError` for another value of any other flag."""
    base = {**stored, "folder": Path(stored["folder"])}
    requested = from_flags({**base, **given}).as_json()
    for name in given:
        if name not in CHANGEABLE and requested[name] != stored.get(name):
            raise SettingError(
                f"{flag(name)} is {given[name]} but the run began with {stored.get(name)}; a resumed run keeps it: "
                "leave the flag out, or start a new run with another --out."
            )
    return from_flags({**base, **{name: value for name, value in given.items() if name in CHANGEABLE}})
