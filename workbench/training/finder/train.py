"""Trains the embedded finder on drawn scenes, in three stages, and writes checkpoints.

    python -m dynrefer.workbench.training.finder.train --out runs/finder [--data FILE --images DIR] [--from DIR]

A checkpoint holds weights, their running mean, optimiser and step; batches are functions of the step, so a stopped run
goes on from its last checkpoint, to the weights of a run that was not stopped. --data: the images of a file instead of
drawn scenes (see docs/training.md).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dynrefer.model.errors import ConfigError, ModelError
from dynrefer.model.loading import model_directory
from dynrefer.model.networks.finder.network import FinderConfig, FinderNetwork
from dynrefer.model.networks.finder.weights import WEIGHTS, load_files
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.drawn_batches import draw_pool
from dynrefer.workbench.training.finder.file_scenes import FileScenes
from dynrefer.workbench.training.finder.losses import finder_losses
from dynrefer.workbench.training.finder.masked_words import MaskedWords
from dynrefer.workbench.training.finder.samples import FinderSamples
from dynrefer.workbench.training.finder.settings import HELD_OUT_NAMES, LOSSES, UNUSUAL, Stage, stages, switched

FIRST_SEED = 4_000_000_000  # of the scenes; evaluation and calibration use higher ones
MEAN_OF = 0.998  # of the running mean of the weights, per step


def trained_names(world: World) -> tuple[str, ...]:
    """The names that training images show."""
    return tuple(category.name for category in world.categories if category.name not in HELD_OUT_NAMES)


class FinderTraining:
    """A network, its running mean and optimiser, at a step of a stage."""

    def __init__(
        self,
        text_embeddings: Tensor,
        seed: int,
        *,
        config: FinderConfig | None = None,
        words: bool = False,
        mean_of: float = MEAN_OF,
    ) -> None:
        """text_embeddings: (T, E) of the trained names. words: masked words can be told. mean_of: what a step leaves
        of the running mean."""
        torch.manual_seed(seed)
        # torch's stubs know no `to` with a memory format alone.
        self.network = FinderNetwork(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.words = MaskedWords(caption_tokenizer(), self.network.config.embedding) if words else None
        self.texts = text_embeddings
        self.mean = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = self._new_optimiser()
        self.stage, self.step, self._mean_of = 0, 0, mean_of

    def start_from(self, directory: Path) -> None:
        """Begin with the weights of a finder's folder. Raises `ConfigError`, `ModelNotFoundError`, `WeightsError`."""
        if load_files(directory).network.config != self.network.config:
            raise ConfigError(f"{str(directory)!r} is a finder of other sizes than the one to train.")
        # Not those of `load_files`, in which the normalisations are folded.
        found = {name: value.float() for name, value in load_file(directory / WEIGHTS).items()}
        self.network.load_state_dict(found, strict=False)
        self.mean = {name: value.clone() for name, value in self.network.state_dict().items()}

    def begin(self, stage: int) -> None:
        """Go on with another stage: its weights are the running mean of the one before."""
        self.network.load_state_dict(self.mean)
        self.optimiser = self._new_optimiser()
        self.stage, self.step = stage, 0

    def advance(self, stage: Stage, samples: FinderSamples) -> dict[str, float]:
        """One batch; its losses."""
        self.network.train()
        if stage.frozen:
            self._freeze_detector()
        for group in self.optimiser.param_groups:
            group["lr"] = stage.rate * _schedule(self.step, stage.steps)
        index = self.stage * 10_000_000 + self.step
        side = int(np.random.default_rng((11, index)).choice(stage.sides))
        batch = samples.batch(index, side, close=stage.close)
        maps = self.network(batch.pixels.contiguous(memory_format=torch.channels_last))
        vectors, rng = self.network.name_vectors(self.texts), np.random.default_rng((12, index))
        losses = finder_losses(self.network, maps, batch, vectors, stage.weights, self.words, rng)
        self.optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        decay = min(self._mean_of, self.step / (self.step + 10)) if self.stage == 0 else self._mean_of
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.mean[name].lerp_(value, 1 - decay)
                else:
                    self.mean[name].copy_(value)
        return {name: float(value.detach()) for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        words = {} if self.words is None else {"words": self.words.state_dict()}
        return words | {
            "network": self.network.state_dict(),
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
            "stage": self.stage,
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`. Raises `SettingError` for that of a run with, or without, masked words."""
        if ("words" in state) != (self.words is not None):
            raise SettingError("the checkpoint is of a run with another choice of masked_words; choose another --out.")
        if self.words is not None:
            self.words.load_state_dict(state["words"])
        self.network.load_state_dict(state["network"])
        self.mean = state["mean"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.stage, self.step = state["stage"], state["step"]

    def _freeze_detector(self) -> None:
        """Only the mask head learns; the rest keeps its statistics too."""
        heads = ("coefficients.", "from4.", "to4.", "prototypes.")
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(heads))
        for name, module in self.network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and not name.startswith(heads):
                module.eval()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)
        every = [*self.network.parameters(), *(self.words.parameters() if self.words else ())]
        decayed = [each for each in every if each.ndim > 1]
        free = [each for each in every if each.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.03}, {"params": free, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, foreach=False)


def draw_scenes(count: int, workers: int) -> list[Scene]:
    """Scenes without the held-out names."""
    return draw_pool(FIRST_SEED, count, workers, photograph_backgrounds=0.15, without=frozenset(HELD_OUT_NAMES))


def text_embeddings(names: tuple[str, ...]) -> Tensor:
    """The describer's, (T, E) float32."""
    directory = model_directory("embedded")
    categories = list(Vocabulary.load(directory).categories)
    return TextEmbeddings.load(directory).categories[[categories.index(name) for name in names]]


def caption_tokenizer() -> PreTrainedTokenizerBase:
    """That of the describer's text tower."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_directory("embedded") / "text_tokenizer")
    return found


def train(options: argparse.Namespace) -> None:
    """Run or go on with the run in `options.out`. Raises `DataError`, `SettingError`."""
    torch.set_num_threads(options.threads)
    # Files give boxes, and no masks to learn from: a mask head to begin with stays as it is.
    without = [*options.without, *(["mask"] if options.data is not None else [])]
    plan = switched(stages(options.scale), options.extra, without)
    if not plan:
        raise SettingError("--without leaves no loss to train with; leave one in.")
    names = trained_names(World.load())
    scenes: Sequence[Scene]
    if options.data is not None:
        names = Vocabulary.load(model_directory("embedded")).categories
        scenes = FileScenes.read(options.data, options.images, names)
        print(scenes.summary, flush=True)
    training = FinderTraining(text_embeddings(names), options.seed, words="masked_words" in options.extra)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if tuple(state.get("names", names)) != tuple(names):
            raise SettingError(f"{str(checkpoint)!r} is of a run with other names; choose another --out.")
        training.restore(state)
    elif options.start is not None:
        training.start_from(options.start)
    if options.data is None:
        scenes = draw_scenes(options.scenes, options.threads)
    photographs = PhotographPack.load()
    began = time.monotonic()
    while training.stage < len(plan):
        stage = plan[training.stage]
        samples = FinderSamples(scenes, photographs, names, options.seed, stage.batch, drawn=options.data is None)
        sums: dict[str, float] = {}
        while training.step < stage.steps:
            for name, value in training.advance(stage, samples).items():
                sums[name] = sums.get(name, 0.0) + value
            if training.step % 50 == 0 or training.step == stage.steps:
                means = {name: round(value / 50, 4) for name, value in sums.items()}
                line = {"stage": stage.name, "step": training.step, **means, "s": round(time.monotonic() - began)}
                print(json.dumps(line), flush=True)
                sums.clear()
            if training.step % 200 == 0 or training.step == stage.steps:
                torch.save({**training.state(), "names": list(names)}, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
        if training.stage + 1 == len(plan):
            return
        training.begin(training.stage + 1)


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 100)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(description="Train the embedded finder on drawn scenes.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--data", type=Path, metavar="FILE", help="COCO-style file, or folder of Flickr30k Entities")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images of --data")
    parser.add_argument("--from", type=Path, dest="start", metavar="DIR", help="a finder to begin with [default: none]")
    parser.add_argument("--with", nargs="+", choices=list(UNUSUAL), default=[], dest="extra", help="further losses")
    parser.add_argument("--without", nargs="+", choices=LOSSES, default=[], help="losses that are switched off")
    parser.add_argument("--scale", type=float, default=1.0, help="of all steps [default: %(default)s]")
    parser.add_argument("--scenes", type=int, default=12000, help="drawn once, kept in memory [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    try:
        train(parser.parse_args())
    except ModelError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
