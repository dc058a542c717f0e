"""Trains the small segmenter on drawn scenes and writes its weights.

    python -m dynrefer.workbench.training.segmenter.train --out runs/segmenter

About an hour on one core. A checkpoint holds weights, optimiser and step; batches are functions of the step, so a
stopped run goes on from its last checkpoint. The weights that ship had 3,600 steps, but the learning rate followed the
schedule of 5,500 until step 2,600 and that of 4,600 until step 2,800: the machine was shared, and time ran out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dynrefer.model.networks.segmenter.network import MaskHead
from dynrefer.model.networks.segmenter.prompts import paint_box, paint_clicks
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.training.embedded.drawn_batches import draw_pool
from dynrefer.workbench.training.segmenter.clicks import middle, next_click
from dynrefer.workbench.training.segmenter.samples import WindowBatch, WindowSamples

_ROUNDS = (0.4, 0.25, 0.2, 0.15)  # probabilities of 0, 1, 2, 3 clicks after the first
_OUTER_FIRST = 0.5  # of the batches begin with a look at the wider window
_FIRST_SEED = 3_000_000_000  # of the scenes; the network's own training uses lower ones


class ClickTraining:
    """The losses of a batch, with clicks that answer the network's own mistakes."""

    def __init__(self, network: MaskHead) -> None:
        self._network = network

    def loss(self, batch: WindowBatch, index: int) -> tuple[Tensor, float]:
        """The loss to descend and the batch's mean IoU. index: of the batch, which fixes all that is random."""
        generator = torch.Generator().manual_seed(index)
        rng = np.random.default_rng((7, index))
        size, side = len(batch.mask), batch.mask.shape[-1]
        spread = torch.rand(size, generator=generator) ** 2
        boxed = ~batch.box[:, 0].isnan()
        box = paint_box(batch.box, side)
        clicks = torch.zeros(size, 2, side, side)
        first = middle(batch.mask, generator, spread)
        paint_clicks(clicks, first, torch.ones(size, dtype=torch.bool), ~boxed)
        earlier = torch.zeros(size, side, side)
        if rng.random() < _OUTER_FIRST:
            earlier = self._outer(batch, first, boxed)
        for _ in range(int(rng.choice(len(_ROUNDS), p=_ROUNDS))):
            logits = self._look(batch.pixels, torch.cat([clicks, box, earlier[:, None]], dim=1))
            at, positive = next_click(logits > 0, batch.mask, generator, spread)
            paint_clicks(clicks, at, positive, torch.ones(size, dtype=torch.bool))
            earlier = logits.sigmoid()
        if rng.random() < 0.15:
            earlier = torch.zeros_like(earlier)
        found = self._network(batch.pixels, torch.cat([clicks, box, earlier[:, None]], dim=1))
        return _losses(found.mask, found.quality, batch.mask)

    def _outer(self, batch: WindowBatch, first: Tensor, boxed: Tensor) -> Tensor:
        """What a look at the outer window says about the inner, as probabilities (B, S, S)."""
        size, side = len(batch.mask), batch.mask.shape[-1]
        low, high = batch.placement[:, :2], batch.placement[:, 2:]
        place = (first.flip(1) + 0.5) / side * (high - low) + low  # x, y as fractions of the outer window
        at = (place * side).long().clamp(0, side - 1).flip(1)
        clicks = torch.zeros(size, 2, side, side)
        paint_clicks(clicks, at, torch.ones(size, dtype=torch.bool), ~boxed)
        scale = (high - low).repeat(1, 2)
        box = paint_box(batch.box * scale + low.repeat(1, 2), side)
        logits = self._look(batch.outer_pixels, torch.cat([clicks, box, torch.zeros(size, 1, side, side)], dim=1))
        theta = torch.zeros(size, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = (high - low).T
        theta[:, :, 2] = low + high - 1
        grid = functional.affine_grid(theta, [size, 1, side, side], align_corners=False)
        return functional.grid_sample(logits.sigmoid()[:, None], grid, align_corners=False)[:, 0]

    @torch.no_grad()
    def _look(self, pixels: Tensor, prompt: Tensor) -> Tensor:
        self._network.eval()
        logits: Tensor = self._network(pixels, prompt).mask
        self._network.train()
        return logits


def _losses(logits: Tensor, quality: Tensor, mask: Tensor) -> tuple[Tensor, float]:
    truth = mask.float()
    pixels = functional.binary_cross_entropy_with_logits(logits, truth)
    likely = logits.sigmoid()
    shared = (likely * truth).sum(dim=(1, 2))
    dice = 1 - (2 * shared + 1) / ((likely + truth).sum(dim=(1, 2)) + 1)
    found = logits.detach() > 0
    iou = (found & mask).sum(dim=(1, 2)) / (found | mask).sum(dim=(1, 2)).clamp(min=1)
    judged = functional.binary_cross_entropy_with_logits(quality, iou)
    return 2 * pixels + dice.mean() + 0.2 * judged, float(iou.mean())


def train(options: argparse.Namespace) -> None:
    """Run or go on with the run in `options.out`."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = MaskHead().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=0.02)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    step = _restore(checkpoint, network, optimiser)
    scenes = draw_pool(_FIRST_SEED, options.scenes, workers=1, photograph_backgrounds=0.35)
    samples = WindowSamples(scenes, PhotographPack.load(), options.seed, options.batch, options.side)
    training = ClickTraining(network)
    network.train()
    began, ious = time.monotonic(), []
    while step < options.steps:
        for group in optimiser.param_groups:
            group["lr"] = options.rate * _schedule(step, options.steps)
        loss, iou = training.loss(samples[step], step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        ious.append(iou)
        step += 1
        if step % 50 == 0 or step == options.steps:
            line = {"step": step, "iou": round(sum(ious) / len(ious), 4), "s": round(time.monotonic() - began)}
            print(json.dumps(line), flush=True)
            ious.clear()
        if step % 200 == 0 or step == options.steps:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 100)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _restore(checkpoint: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """The step to go on from."""
    if not checkpoint.is_file():
        return 0
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(description="Train the small segmenter on drawn scenes.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=96, help="of a window, pixels [default: %(default)s]")
    parser.add_argument("--scenes", type=int, default=6000, help="drawn once, kept in memory [default: %(default)s]")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
