"""What is checked: a device, a size of model, and how much work that allows."""

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu_check.figures import FULL_SIZE
from dynrefer.workbench.profiling.workload import Workload


@dataclass(frozen=True)
class Conditions:
    """device: cuda, cuda:N or cpu. preset: of the measured model. folder: for what is written on the way."""

    device: str
    preset: str
    folder: Path

    @property
    def on(self) -> torch.device:
        """The device, for torch."""
        return torch.device(self.device)

    @property
    def is_gpu(self) -> bool:
        """Whether it is one."""
        return self.on.type == "cuda"

    @property
    def dtype(self) -> str:
        """What `--dtype auto` takes."""
        return "bfloat16" if self.is_gpu else "float32"

    @property
    def full_size(self) -> bool:
        """Whether the targets hold."""
        return self.is_gpu and self.preset == FULL_SIZE

    @property
    def work(self) -> Workload:
        """The measured work of a region."""
        return Workload()

    @property
    def batches(self) -> tuple[int, ...]:
        """Regions of the measured batches."""
        return (1, 8, 32, 64) if self.is_gpu else (1, 8)

    @property
    def curve_batches(self) -> tuple[int, ...]:
        """Regions at a time, for the curve."""
        return (1, 2, 4, 8, 16, 32, 64) if self.is_gpu else (1, 2)

    @property
    def curve_s(self) -> float:
        """How long regions join and leave, for one point of the curve."""
        return 3.0 if self.is_gpu else 1.5

    @property
    def plain_batches(self) -> tuple[int, ...]:
        """Of the plain way."""
        return (1, 8, 32) if self.is_gpu else (1, 8)

    @property
    def towers(self) -> tuple[int, ...]:
        """Views at a time through the vision tower."""
        return (3, 24, 96) if self.is_gpu else (3, 24)

    @property
    def repeats(self) -> int:
        """Timed runs of a batch, after a warm-up."""
        return 5 if self.is_gpu else 1

    @property
    def load_s(self) -> float:
        """How long clients send."""
        return 6.0 if self.is_gpu else 4.0
