"""The recipe of the embedded model: trained in stages, from random weights or the added ones from a model; resumable.

`dynrefer train --preset embedded --out DIR` repeats all of it, with `--from embedded` its added stages. A checkpoint
holds the weights, the optimiser, the random state and the step; the batches are functions of (seed, step).
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

from dynrefer.model.loading import pick_device
from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.vocabulary import TextEmbeddings, embed_vocabulary
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
    moved,
)
from dynrefer.workbench.training.embedded.joint import JointTraining, JointWeights
from dynrefer.workbench.training.embedded.language import LanguageTraining
from dynrefer.workbench.training.embedded.model_directory import export_model
from dynrefer.workbench.training.embedded.origin import Origin, begin_or_continue
from dynrefer.workbench.training.embedded.pretrain import Pretraining
from dynrefer.workbench.training.embedded.stages import ADDED, RECIPE, Stage, varied
from dynrefer.workbench.training.embedded.starting_model import load_starting_model

Training = Pretraining | JointTraining | LanguageTraining


_UNSEEN = (20_000_000, 100)
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
    device: torch.device
    pools: dict[tuple[tuple[int, int], float], Sequence[Scene]] = field(default_factory=dict)
    pretraining: Pretraining | None = None  # its heads are kept from one stage to the next

    def pool(self, seeds: tuple[int, int], photograph_backgrounds: float = 0.0) -> Sequence[Scene]:
        """The scenes of one pool (first seed, number), drawn once; those of the previous stage are freed."""
        key = (seeds, photograph_backgrounds)
        if key not in self.pools:
            if seeds != _UNSEEN:
                self.pools = {other: scenes for other, scenes in self.pools.items() if other[0] == _UNSEEN}
            self.pools[key] = draw_pool(*seeds, self.processes, photograph_backgrounds)
        return self.pools[key]

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def train_embedded(
    out: Path,
    *,
    resume: bool = False,
    recipe: Sequence[Stage] | None = None,
    processes: int = 2,
    start: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Path:
    """Train, and write the finished model to `out`/model; returns that directory.

    resume: continue from the last checkpoint in `out`. recipe: by default all stages, or with `start` the added ones.
    processes: that draw scenes; one fewer read batches. start: "embedded" or a model directory that the run starts
    from; None for random weights. seed: of the added stages' batches, scenes and random numbers. device: as in
    `load_model`.
    Raises FileExistsError if `out` holds a run and `resume` is false, `SettingError` if that run has another start or
    seed, or for a start that the stages cannot train.
    """
    if (out / "log.jsonl").exists() and not resume:
        raise FileExistsError(f"{out} already holds a run; pass --resume to continue it, or choose another --out.")
    on = pick_device(device)
    stages = varied(recipe if recipe is not None else ADDED if start else RECIPE, seed)
    world = World.load()
    torch.manual_seed(seed if start else 0)
    starting = load_starting_model(start, world, seed=seed) if start else None
    out.mkdir(parents=True, exist_ok=True)
    begin_or_continue(out, Origin(starting.revision if starting else None, seed))
    if starting:
        model, tokenizers = starting.model, starting.tokenizers
    else:
        tokenizers = _tokenizers(out, world)
        model = DynReferModel(_sized_config(*tokenizers))
        nn.init.constant_(model.region_text_bias, _INITIAL_BIAS)
    run = Run(model, world, tokenizers, out, processes, on)
    listed = [asdict(stage) for stage in stages]
    (out / "recipe.json").write_text(json.dumps(listed, indent=1) + "\n")
    started = time.time()
    for stage in stages:
        _run_stage(run, stage)
    run.log({"finished": True, "seconds": round(time.time() - started)})
    earlier = starting.stages if starting else ()
    return export_model(nn.Module.cpu(run.model), world, run.tokenizers, out / "model", recipe=listed, earlier=earlier)


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
    module = _module(run, stage).to(run.device)
    done, optimiser = run.out / f"{stage.name}.done.pt", _optimiser(module, stage)
    saved = run.out / f"{stage.name}.pt"
    first = 0
    if done.exists():  # a resumed run
        state = torch.load(done, weights_only=True, map_location="cpu")
        module.load_state_dict(state["module"])
        torch.set_rng_state(state["random"])
        return
    if saved.exists():
        state = torch.load(saved, weights_only=True, map_location="cpu")
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        first = state["step"]
    run.model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # makes convolutions in bfloat16 a fifth faster
    started = time.time()
    data = _data(run, stage, run.pool(stage.pool, stage.photograph_backgrounds))
    unseen = moved(_data(run, stage, run.pool(_UNSEEN))[0], run.device)
    run.log({"stage": stage.name, "drawing_seconds": round(time.time() - started, 1)})
    module.train()
    started = time.time()
    bar = tqdm(
        _batches(data, first, run.processes - 1), total=stage.steps, initial=first, desc=stage.name, mininterval=5
    )
    for step, batch in enumerate(bar, start=first):
        rate = _learning_rate(stage, step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        terms = module.losses(moved(batch, run.device))
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        if step < stage.heads_first:  # a weight without a gradient stays as it is
            run.model.zero_grad(set_to_none=True)
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
    run.log({"stage": stage.name, "steps": stage.steps - first, "seconds": round(time.time() - started, 1)})
    saved.unlink(missing_ok=True)


def _check(module: Training, batch: Any) -> dict[str, float]:
    """Accuracies on a batch of unseen scenes, to watch the progress; too few regions for a measurement."""
    state = torch.get_rng_state()
    module.eval()
    found = {name: round(value, 3) for name, value in module.accuracy(batch).items()}
    module.train()
    torch.set_rng_state(state)
    return found


def _module(run: Run, stage: Stage) -> Training:
    vocabulary = world_vocabulary(run.world)
    if stage.kind == "pretrain":
        if run.pretraining is None or stage.heads_first:
            run.pretraining = Pretraining(run.model, run.world, vocabulary, run.tokenizers[0])
        run.pretraining.attribute_weight = stage.attribute_weight
        return run.pretraining.requires_grad_(True)
    if stage.kind == "language":
        return LanguageTraining(run.model)
    run.model.train(False)
    texts = embed_vocabulary(run.model, run.tokenizers[0], vocabulary)
    on_device = TextEmbeddings(*(part.to(run.device) for part in (texts.tags, texts.attributes, texts.categories)))
    weights = JointWeights(stage.attribute_weight, stage.tag_weight)
    return JointTraining(run.model, run.world, vocabulary, on_device, vision=stage.kind == "all", weights=weights)


def _data(run: Run, stage: Stage, pool: Sequence[Scene]) -> SceneBatches:
    cls = PretrainData if stage.kind == "pretrain" else RegionData
    options = DataOptions(
        stage.seed, stage.crops, stage.scenes, stage.steps, stage.view_size, stage.jpeg, stage.placeholder
    )
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
    state = {
        "module": {name: value.cpu() for name, value in module.state_dict().items()},
        "step": step,
        "random": torch.get_rng_state(),
    }
    if optimiser is not None:
        state["optimiser"] = optimiser.state_dict()
    with write_atomically(path) as temporary:
        torch.save(state, temporary)
