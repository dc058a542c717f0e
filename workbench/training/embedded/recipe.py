"""The recipe of the embedded model: trained from random weights in stages; resumable.

`dynrefer train --preset embedded --out DIR` repeats it. A checkpoint holds the weights, the optimiser, the random state
and the step; the batches are functions of (seed, step).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm
from transformers import AutoTokenizer

from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.vocabulary import embed_vocabulary
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import build_tokenizers, world_vocabulary
from dynrefer.workbench.training.embedded.drawn_batches import (
    DataOptions,
    PretrainData,
    RegionData,
    SceneBatches,
    draw_pool,
)
from dynrefer.workbench.training.embedded.joint import JointTraining, JointWeights
from dynrefer.workbench.training.embedded.model_directory import export_model
from dynrefer.workbench.training.embedded.pretrain import Pretraining


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe. crops, scenes: per batch. view_size: pixels. seed: of the batches.

    pool: first seed and number of the scenes that the batches are made of. warm_up: steps. clip: maximum norm of the
    gradients. attribute_weight: of a mean over all attributes; with 1, each counts little beside the category.
    tag_weight: of a sum over all tags.
    """

    name: str
    kind: str  # "pretrain" (the towers), "joint" (all but the towers) or "all" (the vision tower too)
    steps: int
    crops: int
    scenes: int
    learning_rate: float
    view_size: int
    seed: int
    pool: tuple[int, int]
    weight_decay: float = 0.05
    warm_up: int = 150
    clip: float = 2.0
    attribute_weight: float = 10.0
    tag_weight: float = 0.15


# 10,000 scenes (53,000 regions) are memorised in seven passes of close-ups, so later stages use other scenes.
_FIRST, _SECOND = (10_000_000, 10_000), (30_000_000, 40_000)
_THIRD, _FOURTH, _FIFTH = (50_000_000, 25_000), (100_000_000, 40_000), (150_000_000, 10_400)
_SIXTH, _SEVENTH = (110_000_000, 40_000), (180_000_000, 5_600)
_EIGHTH, _NINTH = (120_000_000, 40_000), (190_000_000, 11_200)
_UNSEEN = (20_000_000, 100)
# The decoders are first trained on half-trained towers, which is cheap; then the towers get their main training; then
# both are trained together.
RECIPE = (
    Stage("close-32", "pretrain", 2400, 256, 0, 2e-3, 32, seed=11, pool=_FIRST, attribute_weight=2.0),
    Stage("dense-64", "pretrain", 2400, 96, 16, 1e-3, 64, seed=12, pool=_SECOND, attribute_weight=2.0),
    Stage("close-64", "pretrain", 1300, 128, 4, 1e-3, 64, seed=13, pool=_THIRD, attribute_weight=2.0),
    Stage("joint", "joint", 1400, 0, 16, 1e-3, 64, seed=14, pool=_THIRD, attribute_weight=1.0, tag_weight=0.05),
    Stage("towers", "pretrain", 7000, 128, 6, 1e-3, 64, seed=17, pool=_FOURTH),
    Stage("decoders", "joint", 900, 0, 16, 1e-3, 64, seed=18, pool=_FOURTH),
    Stage("all", "all", 650, 0, 16, 5e-4, 64, seed=19, pool=_FIFTH, warm_up=50),
    # The same three once more, on other scenes.
    Stage("towers-again", "pretrain", 5000, 144, 4, 1e-3, 64, seed=21, pool=_SIXTH, attribute_weight=5.0),
    Stage("decoders-again", "joint", 500, 0, 16, 1e-3, 64, seed=22, pool=_SIXTH, warm_up=50, attribute_weight=5.0),
    Stage("all-again", "all", 350, 0, 16, 5e-4, 64, seed=23, pool=_SEVENTH, warm_up=30, attribute_weight=5.0),
    # And a third time: a lower learning rate for the towers, and more steps for all parts together.
    Stage("towers-third", "pretrain", 5000, 144, 4, 7e-4, 64, seed=31, pool=_EIGHTH, attribute_weight=5.0),
    Stage("decoders-third", "joint", 500, 0, 16, 1e-3, 64, seed=32, pool=_EIGHTH, warm_up=50, attribute_weight=5.0),
    Stage("all-third", "all", 700, 0, 16, 5e-4, 64, seed=33, pool=_NINTH, warm_up=30, attribute_weight=5.0),
)
_INITIAL_BIAS = -5.0  # of the region-text logits; the paper's -10 is for batches of 512
_CHECKPOINT_EVERY = 200


@dataclass
class Run:
    """What all stages share."""

    model: DynReferModel
    world: World
    tokenizers: tuple[Any, Any]
    out: Path
    processes: int
    pools: dict[tuple[int, int], Sequence[Scene]] = field(default_factory=dict)
    pretraining: Pretraining | None = None  # its heads are kept from one stage to the next

    def pool(self, first_seed: int, count: int) -> Sequence[Scene]:
        """The scenes of one pool, drawn once; those of the previous stage are freed."""
        key = (first_seed, count)
        if key not in self.pools:
            if key != _UNSEEN:
                self.pools = {other: scenes for other, scenes in self.pools.items() if other == _UNSEEN}
            self.pools[key] = draw_pool(first_seed, count, self.processes)
        return self.pools[key]

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def train_embedded(out: Path, *, resume: bool = False, recipe: tuple[Stage, ...] = RECIPE, processes: int = 2) -> Path:
    """Train, and write the finished model to `out`/model; returns that directory.

    resume: continue from the last checkpoint in `out`. processes: that draw scenes; one fewer read batches. Raises
    FileExistsError if `out` holds a run and `resume` is false.
    """
    if (out / "log.jsonl").exists() and not resume:
        raise FileExistsError(f"{out} already holds a run; pass --resume to continue it, or choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    world = World.load()
    tokenizers = _tokenizers(out, world)
    model = DynReferModel(_sized_config(*tokenizers))
    nn.init.constant_(model.region_text_bias, _INITIAL_BIAS)
    run = Run(model, world, tokenizers, out, processes)
    (out / "recipe.json").write_text(json.dumps([asdict(stage) for stage in recipe], indent=1) + "\n")
    started = time.time()
    for stage in recipe:
        _run_stage(run, stage)
    run.log({"finished": True, "seconds": round(time.time() - started)})
    return export_model(run.model, world, run.tokenizers, out / "model", recipe=[asdict(stage) for stage in recipe])


def _tokenizers(out: Path, world: World) -> tuple[Any, Any]:
    """The run's own if it has begun: weights and tokenizers belong together."""
    kept = [out / name for name in ("text_tokenizer", "language_tokenizer")]
    if not kept[0].exists():
        for tokenizer, path in zip(build_tokenizers(world), kept, strict=True):
            tokenizer.save_pretrained(path)
    text, language = (AutoTokenizer.from_pretrained(path) for path in kept)
    return text, language


def _sized_config(text_tokenizer: Any, language_tokenizer: Any) -> Any:
    """The embedded preset with the sizes of these tokenizers' vocabularies."""
    config = preset("embedded")
    text = config.text_config.to_dict() | {
        "vocab_size": len(text_tokenizer),
        "bos_token_id": text_tokenizer.bos_token_id,
        "eos_token_id": text_tokenizer.eos_token_id,
        "pad_token_id": text_tokenizer.pad_token_id,
    }
    language = config.language_config.to_dict() | {"vocab_size": len(language_tokenizer)}
    return preset("embedded", text_config=text, language_config=language)


def _run_stage(run: Run, stage: Stage) -> None:
    module = _module(run, stage)
    done, optimiser = run.out / f"{stage.name}.done.pt", _optimiser(module, stage)
    saved = run.out / f"{stage.name}.pt"
    first = 0
    if done.exists():  # a resumed run
        module.load_state_dict(torch.load(done, weights_only=True)["module"])
        return
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        first = state["step"]
    run.model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # makes convolutions in bfloat16 a fifth faster
    data = _data(run, stage, run.pool(*stage.pool))
    unseen = _data(run, stage, run.pool(*_UNSEEN))[0]
    module.train()
    bar = tqdm(
        _batches(data, first, run.processes - 1), total=stage.steps, initial=first, desc=stage.name, mininterval=5
    )
    for step, batch in enumerate(bar, start=first):
        rate = _learning_rate(stage, step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        terms = module.losses(batch)
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(module.parameters(), stage.clip)
        optimiser.step()
        if step % 20 == 0:
            values = {name: round(float(term.detach()), 4) for name, term in terms.items()}
            bar.set_postfix({"loss": round(sum(values.values()), 3)}, refresh=False)
            run.log({"stage": stage.name, "step": step, "lr": rate, "loss": round(sum(values.values()), 4), **values})
        if (step + 1) % _CHECKPOINT_EVERY == 0:
            _save(saved, module, optimiser, step + 1)
            run.log({"stage": stage.name, "step": step + 1, "unseen": _check(module, unseen)})
    _save(done, module, None, stage.steps)
    saved.unlink(missing_ok=True)


def _check(module: Pretraining | JointTraining, batch: Any) -> dict[str, float]:
    """Accuracies on a batch of unseen scenes, to watch the progress; too few regions for a measurement."""
    state = torch.get_rng_state()
    module.eval()
    found = {name: round(value, 3) for name, value in module.accuracy(batch).items()}
    module.train()
    torch.set_rng_state(state)
    return found


def _module(run: Run, stage: Stage) -> Pretraining | JointTraining:
    vocabulary = world_vocabulary(run.world)
    if stage.kind == "pretrain":
        run.pretraining = run.pretraining or Pretraining(run.model, run.world, vocabulary, run.tokenizers[0])
        run.pretraining.attribute_weight = stage.attribute_weight
        return run.pretraining.requires_grad_(True)
    run.model.train(False)
    texts = embed_vocabulary(run.model, run.tokenizers[0], vocabulary)
    weights = JointWeights(stage.attribute_weight, stage.tag_weight)
    return JointTraining(run.model, run.world, vocabulary, texts, vision=stage.kind == "all", weights=weights)


def _data(run: Run, stage: Stage, pool: Sequence[Scene]) -> SceneBatches:
    cls = PretrainData if stage.kind == "pretrain" else RegionData
    options = DataOptions(stage.seed, stage.crops, stage.scenes, stage.steps, stage.view_size)
    return cls(run.world, pool, run.tokenizers, options)


def _batches(data: SceneBatches, first: int, workers: int) -> Iterator[Any]:
    rest = Subset(data, range(first, len(data)))
    extra = {"prefetch_factor": 6, "multiprocessing_context": "fork"} if workers else {}
    yield from DataLoader(rest, batch_size=None, num_workers=workers, **extra)  # type: ignore[arg-type]


def _optimiser(module: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98))


def _learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak."""
    if step < stage.warm_up:
        return stage.learning_rate * (step + 1) / stage.warm_up
    done = (step - stage.warm_up) / max(1, stage.steps - stage.warm_up)
    return stage.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def _save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer | None, step: int) -> None:
    """Write a checkpoint whole or not at all."""
    state = {"module": module.state_dict(), "step": step, "random": torch.get_rng_state()}
    if optimiser is not None:
        state["optimiser"] = optimiser.state_dict()
    with write_atomically(path) as temporary:
        torch.save(state, temporary)
