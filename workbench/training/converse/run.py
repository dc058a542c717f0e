"""A training: network, running mean, optimiser, and where in which stage it is. It stops and goes on at any time."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dynrefer.model.networks.converse.embedded.network import ConverseNetwork
from dynrefer.model.networks.converse.embedded.reading import NetworkConfig
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.converse.samples import Batch, Samples
from dynrefer.workbench.training.converse.stages import Stage

CHECKPOINT = "checkpoint.pt"
_SCENES, _QUESTIONS = 6, 8  # of a batch: scenes, and questions about each
_SAVED_EVERY = 120.0  # seconds
_MEAN_OF = 0.997  # what a step leaves of the running mean
_LENGTHS = (20, 28, 10_000)  # tokens: questions of a batch are about equally long
_FINAL = 0.02  # of the highest rate, at the end of a stage
_WARM = 0.03  # of a stage's time
_FIRST = 3.0  # how much the first token of an answer counts


class ConverseTraining:
    """seed: of the first weights and of all batches. bfloat16: whether matrix products are computed in it; weights and
    their steps are float32 all the same."""

    def __init__(self, config: NetworkConfig, seed: int, *, bfloat16: bool = False) -> None:
        torch.manual_seed(seed)
        self._precision = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
        self.network, self.seed = ConverseNetwork(config), seed
        self.mean = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.stage, self.step, self.spent = 0, 0, 0.0
        self.optimiser = self._new_optimiser()

    def advance(self, batch: Batch, rate: float) -> float:
        """One step; its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        with self._precision:
            loss = loss_of(self.network, batch)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(_MEAN_OF, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.mean[name].lerp_(value, 1 - decay)
        return float(loss.detach())

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Start from these, in the place of random ones."""
        self.network.load_state_dict(weights)
        self.mean = {name: value.clone() for name, value in weights.items()}

    def begin(self, stage: int) -> None:
        """Go on with another stage, from the weights as they are."""
        self.stage, self.step, self.spent = stage, 0, 0.0
        self.optimiser = self._new_optimiser()

    def save(self, path: Path) -> None:
        """All that a resumed run needs, whole or not at all."""
        state = {
            "config": asdict(self.network.config),
            "network": self.network.state_dict(),
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
            "stage": self.stage,
            "step": self.step,
            "spent": self.spent,
        }
        with write_atomically(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint. Raises `SettingError` for one of another network."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["config"] != asdict(self.network.config):
            raise SettingError(f"{str(path)!r} is of a network with other sizes or words; choose another --out.")
        self.network.load_state_dict(state["network"])
        self.mean = state["mean"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.stage, self.step, self.spent = state["stage"], state["step"], state["spent"]

    def _new_optimiser(self) -> torch.optim.Optimizer:
        decayed = [each for each in self.network.parameters() if each.ndim > 1]
        free = [each for each in self.network.parameters() if each.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), foreach=False)


def logits_of(network: ConverseNetwork, batch: Batch) -> Tensor:
    """(M, words + N): of the M tokens that are to be written, in the order of the batch."""
    seen = batch.slots.boxes.shape[1]
    before = network.see(batch.slots).expanded(batch.rows)
    own = network.read(batch.tokens, before, seen)
    wanted = batch.targets >= 0
    most = int(wanted.sum(1).max())
    # Only the places behind which something is written, so that the rest of the question is not scored.
    places = torch.argsort(wanted.int(), dim=1, descending=True, stable=True)[:, :most]
    hidden = own.hidden.gather(1, places[..., None].expand(-1, -1, own.hidden.shape[-1]))
    logits = network.logits(hidden, before.followed_by(own), batch.pointable, batch.properties, seen + places + 1)
    return logits[wanted.gather(1, places)]


def loss_of(network: ConverseNetwork, batch: Batch) -> Tensor:
    """Mean over tokens, of which the first of an answer counts most: a yes or a no decides all that follows."""
    wanted = batch.targets >= 0
    first = (wanted.cumsum(1) == 1)[wanted]
    each = functional.cross_entropy(logits_of(network, batch), batch.targets[wanted], reduction="none")
    weights = torch.where(first, _FIRST, 1.0)
    return (each * weights).sum() / weights.sum()


@torch.inference_mode()
def right_answers(network: ConverseNetwork, samples: Samples) -> dict[str, tuple[int, int]]:
    """Kind -> (answers of which every token is the most probable one, all answers)."""
    network.eval()
    right, every = Counter[str](), Counter[str]()
    groups = samples.groups(None, 10_000)
    for places in groups.values():
        batch = samples.batch(places, None)
        wanted = batch.targets >= 0
        hits = logits_of(network, batch).argmax(-1) == batch.targets[wanted]
        rows = wanted.nonzero()[:, 0]
        wrong = torch.zeros(len(places)).index_add_(0, rows, (~hits).float())
        for kind, bad, count in zip(batch.kinds, wrong.tolist(), wanted.sum(1).tolist(), strict=True):
            if count:
                every[kind] += 1
                right[kind] += bad == 0
    return {kind: (right[kind], every[kind]) for kind in sorted(every)}


def train(training: ConverseTraining, samples: Samples, plan: Sequence[Stage], seconds: float, out: Path) -> None:
    """Run all stages to their ends, or go on with them. seconds: of processor time, of all stages together: so a busy
    machine trains for longer, and no less."""
    saved = time.monotonic()
    while training.stage < len(plan):
        stage = plan[training.stage]
        limit = seconds * stage.share
        pools = [pool(samples, stage, place) for place in range(len(_LENGTHS))]
        losses: list[float] = []
        while training.spent < limit:
            began = time.process_time()
            batch = _batch(samples, pools, training)
            losses.append(training.advance(batch, stage.rate * _schedule(training.spent / limit)))
            training.spent += time.process_time() - began
            if training.step % 50 == 0:
                line = {"stage": stage.name, "step": training.step, "loss": round(float(np.mean(losses)), 4)}
                print(json.dumps(line | {"s": round(training.spent)}), flush=True)
                losses.clear()
            if time.monotonic() - saved > _SAVED_EVERY:
                training.save(out / CHECKPOINT)
                saved = time.monotonic()
        if training.stage + 1 == len(plan):
            training.save(out / CHECKPOINT)
            return
        training.begin(training.stage + 1)


def pool(samples: Samples, stage: Stage, place: int) -> dict[int, list[int]]:
    """Scene -> questions of this range of lengths, for scenes with some; those that are asked often, as often."""
    least = 0 if place == 0 else _LENGTHS[place - 1]
    groups = samples.groups(stage.kinds, _LENGTHS[place])
    found = {
        scene: [
            each
            for each in own
            if len(samples.samples[each]) > least
            for _ in range(stage.often.get(samples.samples[each].kind, 1))
        ]
        for scene, own in groups.items()
    }
    return {scene: own for scene, own in found.items() if own}


def _batch(samples: Samples, pools: Sequence[dict[int, list[int]]], training: ConverseTraining) -> Batch:
    rng = np.random.default_rng((21, training.seed, training.stage, training.step))
    sizes = np.array([sum(map(len, each.values())) for each in pools], float)
    chosen_pool = pools[int(rng.choice(len(pools), p=sizes / sizes.sum()))]
    scenes = np.array(sorted(chosen_pool))
    chances = np.array([len(chosen_pool[int(scene)]) for scene in scenes], float)
    chosen = rng.choice(scenes, min(_SCENES, len(scenes)), replace=False, p=chances / chances.sum())
    places: list[int] = []
    for scene in chosen.tolist():
        own = chosen_pool[scene]
        places += [own[int(each)] for each in rng.permutation(len(own))[:_QUESTIONS]]
    return samples.batch(places, rng)


def _schedule(done: float) -> float:
    warm = min(1.0, (done + 1e-3) / _WARM)
    return warm * (_FINAL + (1 - _FINAL) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
