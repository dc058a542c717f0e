"""Fit and measure the colour of photographed objects.

    python -m dynrefer.workbench.evidence.colour --packages DIR --parameters colour.json \
        --results benchmarks/results/colour.json

`colour_examples.py` says what DIR holds. Two thirds of the objects and photographs are for fitting:

1. a logistic regression from colours to names, on the centroids of a survey (`colour_names.py`);
2. the same regression and the weights of the three shares, on the examples; penalised by the distance from 1;
3. cross-validated by object: the calibration that makes probabilities hold, and the threshold.

The other third is read once, with the parameters as they are then.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from dynrefer.model.evidence import colour
from dynrefer.model.evidence.colour import COLOURS, ColourParameters, Floats, activation_map, read_colour
from dynrefer.model.evidence.tower import EvidenceTower
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.evidence.colour_examples import FIT, TEST, Example, read_examples
from dynrefer.workbench.evidence.colour_names import centroids
from dynrefer.workbench.profiling.machine import ROOT, provenance
from dynrefer.workbench.scenes.colours import COLOURS as DRAWN_COLOURS
from dynrefer.workbench.scenes.colours import measure_colour

TOWER = ROOT / "model" / "embedded" / "evidence" / "tower.onnx"
_SAMPLES = (40, 40, 24)  # cells drawn per example from peak, whole and rim
_SHARE = 0.02
_SHARPNESS = 1.5  # of the scores; the weights start near 1
_PULL, _SHRINK = 1e-2, 3e-3  # penalties of the distance from the survey's names, and of the biases
_STEPS, _FOLDS = 120, 5
_PRECISION = 0.9  # of what is said, in cross-validation
_WHITE_LIGHT = 0.95  # the survey's colours were seen on screens


class Seen(NamedTuple):
    """An example as the fit sees it.

    activation: (7, 7) float32. samples: (104, F) float32, properties of cells that were drawn by their weights.
    """

    example: Example
    activation: Floats
    samples: Floats


class Fitted(NamedTuple):
    """naming: (F, C). weights: (3,), of peak, whole and rim. bias: (C + 1,), the last is that of "none"."""

    naming: Tensor
    weights: Tensor
    bias: Tensor


def look(examples: Sequence[Example], path: Path) -> list[Seen]:
    """Run the tower over the examples; its first class is taken for the name that is said."""
    tower = EvidenceTower.load(path, threads=1)
    rows = tower.class_weights - tower.class_weights.mean(axis=0)
    out = []
    for number, example in enumerate(examples):
        found = tower.run(example.crop[None])
        activation = activation_map(found.map[0], rows[int(found.logits[0].argmax())])
        out.append(Seen(example, activation, _draw_samples(example, activation, number)))
    return out


def _draw_samples(example: Example, activation: Floats, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    cells, samples = colour.cell_colours(example.crop)
    properties = colour.cell_properties(cells, samples)
    places = []
    for count, weights in zip(_SAMPLES, colour.find_object(cells, activation), strict=True):
        exact = weights.astype(np.float64)
        places.append(rng.choice(len(exact), count, p=exact / exact.sum()))
    return np.ascontiguousarray(properties[:, np.concatenate(places)].T)


def fit_survey() -> Tensor:
    """Step 1: (F, C)."""
    linear, names = centroids()
    lab = colour.to_oklab(linear.T)
    properties = torch.from_numpy(colour.colour_properties(lab, _WHITE_LIGHT, (0.0, 0.0)).T.copy())
    target = torch.from_numpy(names)
    # Green has a hundred times as many names as black.
    rarity = 1 / torch.bincount(target).sqrt()[target]
    naming = torch.zeros(colour.PROPERTIES, len(COLOURS), requires_grad=True)
    optimiser = torch.optim.Adam([naming], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    for _ in range(600):
        losses = nn.functional.cross_entropy(properties @ naming, target, reduction="none")
        loss = (rarity / rarity.sum() * losses).sum() + 3e-4 * naming[1:].square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return naming.detach()


def fit(seen: Sequence[Seen], survey: Tensor) -> Fitted:
    """Step 2. Acceptable names count together; where none is, "none" is the right answer."""
    samples = torch.from_numpy(np.stack([each.samples for each in seen]))
    accepted = torch.from_numpy(np.stack([_accepted(each.example) for each in seen]))
    weight = torch.from_numpy(_weights(seen))
    naming = survey.clone().requires_grad_()
    weights = torch.tensor([0.6, 0.4, 0.3], requires_grad=True)
    bias = torch.zeros(len(COLOURS) + 1, requires_grad=True)
    optimiser = torch.optim.Adam([naming, weights, bias], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        likely = scores(samples, Fitted(naming, weights, bias)).log_softmax(-1)
        loss = -(weight * likely.masked_fill(~accepted, -1e9).logsumexp(-1)).sum()
        loss = loss + _PULL * (naming - survey).square().sum() + _SHRINK * bias.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Fitted(naming.detach(), weights.detach(), bias.detach())


def scores(samples: Tensor, fitted: Fitted) -> Tensor:
    """samples: (N, 104, F). Returns (N, C + 1), as `read_colour` computes them from all cells."""
    names = (samples @ fitted.naming).softmax(-1).split(_SAMPLES, dim=1)
    peak, whole, rim = (torch.log(part.mean(1) + _SHARE) for part in names)
    weights, bias = fitted.weights, fitted.bias
    colours = _SHARPNESS * (weights[0] * peak + weights[1] * whole - weights[2] * rim + bias[:-1])
    return torch.cat([colours, bias[-1:].expand(len(samples), 1)], dim=1)


class Calibration(NamedTuple):
    """The last four of `ColourParameters`."""

    scale: float = 1.0
    lead: float = 0.0
    offset: float = 0.0
    threshold: float = 0.5


def parameters_of(fitted: Fitted, calibration: Calibration) -> ColourParameters:
    """Rounded, so that the file can be read."""
    peak, whole, rim = (round(_SHARPNESS * float(each), 4) for each in fitted.weights)
    naming = tuple(tuple(round(float(value), 4) for value in row) for row in fitted.naming)
    bias = tuple(round(_SHARPNESS * float(value), 4) for value in fitted.bias[:-1])
    none = round(float(fitted.bias[-1]), 4)
    return ColourParameters(naming, peak, whole, rim, bias, none, *calibration)


def cross_validate(seen: Sequence[Seen], survey: Tensor) -> NDArray[np.float64]:
    """Step 3: the names' shares (N, C), each example's by a fit without its object."""
    fold = np.array([zlib.crc32(f"fold {each.example.key}".encode()) % _FOLDS for each in seen])
    out = np.empty((len(seen), len(COLOURS)))
    for held in range(_FOLDS):
        others = [each for each, place in zip(seen, fold, strict=True) if place != held]
        parameters = parameters_of(fit(others, survey), Calibration())
        for index, each in enumerate(seen):
            if fold[index] == held:
                out[index] = colour.compete(each.example.crop, each.activation, parameters)
    return out


def calibrate(seen: Sequence[Seen], shares: NDArray[np.float64]) -> Calibration:
    """From the best name of each example; shares: (N, C). Photographs and cut-outs count the same."""
    best = shares.argmax(1)
    right = np.array([_accepted(each.example)[place] for each, place in zip(seen, best, strict=True)])
    odds = colour.log_odds(shares.max(1))
    lead = np.array([colour.leads(row).max() for row in shares])
    weight = _weights(seen, balanced=True)
    model = LogisticRegression(C=100).fit(np.stack([odds, lead], axis=1), right, weight * len(seen))
    scale, factor = (round(float(value), 4) for value in model.coef_[0])
    offset = round(float(model.intercept_[0]), 4)
    probability = 1 / (1 + np.exp(-(scale * odds + factor * lead + offset)))
    order = np.argsort(-probability, kind="stable")
    precision = np.cumsum((weight * right)[order]) / np.cumsum(weight[order])
    enough = np.flatnonzero(precision >= _PRECISION)
    threshold = float(probability[order[enough[-1]]]) if len(enough) else 0.99
    return Calibration(scale, factor, offset, round(threshold, 3))


def measure(seen: Sequence[Seen], parameters: ColourParameters) -> dict[str, Any]:
    """What is said of these examples, and how often it is right."""
    readings = [read_colour(each.example.crop, each.activation, parameters) for each in seen]
    said = [reading.said for reading in readings]
    confident = [
        (float(reading.probabilities.max()), COLOURS[int(reading.probabilities.argmax())] in each.example.accepted)
        for each, reading in zip(seen, readings, strict=True)
    ]
    wrong = Counter(
        f"{'/'.join(each.example.accepted) or 'none'}: {word}"
        for each, word in zip(seen, said, strict=True)
        if word is not None and word not in each.example.accepted
    )
    bands = {}
    for low, high in ((0, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.001)):
        inside = [(p, ok) for p, ok in confident if low <= p < high]
        if inside:
            p, ok = np.mean(inside, axis=0)
            bands[f"{low:g}-{min(high, 1):g}"] = {"n": len(inside), "mean": round(p, 3), "right": round(ok, 3)}
    return {
        **summary([each.example for each in seen], said),
        "best_name_right": round(float(np.mean([ok for _, ok in confident])), 3),
        "by_probability": bands,
        "wrong": dict(wrong.most_common(30)),
    }


def summary(examples: Sequence[Example], said: Sequence[str | None]) -> dict[str, Any]:
    """Proportions, and standard errors from a bootstrap over objects or photographs."""
    keys = sorted({example.key for example in examples})
    rows = np.zeros((len(keys), 3))  # examples, said, right
    for example, word in zip(examples, said, strict=True):
        rows[keys.index(example.key)] += (1, word is not None, word in example.accepted)
    drawn = np.random.default_rng(0).integers(len(keys), size=(1000, len(keys)))
    totals = rows[drawn].sum(1)
    total, spoken, right = rows.sum(0)
    return {
        "objects": len(keys),
        "examples": int(total),
        "said": int(spoken),
        "right": int(right),
        "right_where_said": round(right / max(spoken, 1), 3),
        "right_where_said_se": round(float(np.std(totals[:, 2] / np.maximum(totals[:, 1], 1))), 3),
        "proportion_said": round(spoken / max(total, 1), 3),
        "proportion_said_se": round(float(np.std(totals[:, 1] / totals[:, 0])), 3),
    }


def drawn_table(seen: Seen) -> tuple[str | None, str | None]:
    """What the drawn world's table of colours says: of the whole crop, and under the activation map.

    The first is said where half of all pixels have the name. The second, where the most frequent name under the top
    tenth of the map is also the one that the top fifth has most in excess of the rim, with a share of 0.3.
    """
    whole = seen.example.crop[:, 2::4, 2::4].transpose(1, 2, 0)
    side = whole.shape[0]
    enlarged = np.kron(seen.activation, np.ones((side // 7, side // 7)))
    rim = np.ones((side, side), dtype=bool)
    rim[5:-5, 5:-5] = False
    top, wide = (enlarged >= np.quantile(enlarged, place) for place in (0.9, 0.8))
    peak, inside, outside = (_name_shares(whole, mask) for mask in (top, wide, rim))
    excess = inside - 0.7 * outside
    best = int(excess.argmax())
    agreed = best == int(peak.argmax()) and inside[best] >= 0.3
    return measure_colour(whole, np.ones_like(rim)), DRAWN_COLOURS[best] if agreed else None


def _name_shares(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    pixels = rgb[mask]
    names = [measure_colour(pixel[None, None], np.ones((1, 1), dtype=bool)) for pixel in pixels]
    return np.array([names.count(name) for name in DRAWN_COLOURS]) / max(len(pixels), 1)


def mask_quality(seen: Sequence[Seen]) -> dict[str, float]:
    """Share of each weight that lies on the object, over the cut-outs, whose outline is known."""
    shares: list[tuple[float, ...]] = []
    for each in seen:
        if each.example.mask is None:
            continue
        mask = each.example.mask.reshape(28, 2, 28, 2).mean((1, 3)).reshape(-1)
        found = colour.find_object(colour.cell_colours(each.example.crop)[0], each.activation)
        alone = colour.enlarge(each.activation)
        alone = alone / max(float(alone.sum()), 1e-6)
        shares.append(tuple(float(part @ mask) for part in (alone, found.peak, found.whole)) + (float(mask.mean()),))
    names = ("activation_map", "peak", "whole", "whole_crop")
    return {name: round(float(value), 3) for name, value in zip(names, np.mean(shares, axis=0), strict=True)}


def _accepted(example: Example) -> NDArray[np.bool_]:
    """(C + 1,): which names are right; the last where none is."""
    return np.array([*(name in example.accepted for name in COLOURS), not example.accepted])


def _weights(seen: Sequence[Seen], balanced: bool = False) -> Floats:
    """(N,), sum 1: an object or box counts once, a box in a real photograph twice; balanced: each kind half."""
    counts = Counter((each.example.kind, each.example.name) for each in seen)
    weight = np.array([1 / counts[each.example.kind, each.example.name] for each in seen])
    real = np.array([each.example.kind == "photograph" for each in seen])
    if balanced:
        weight[real] /= 2 * weight[real].sum()
        weight[~real] /= 2 * weight[~real].sum()
    else:
        weight[real] *= 2
    return np.asarray(weight / weight.sum(), dtype=np.float32)


def _milliseconds(seen: Sequence[Seen], parameters: ColourParameters) -> float:
    """Median over readings, after a first one."""
    times = []
    for each in seen:
        start = time.perf_counter()
        read_colour(each.example.crop, each.activation, parameters)
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times[1:])), 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dynrefer.workbench.evidence.colour", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--packages", type=Path, required=True, help="folder with the unpacked packages")
    parser.add_argument("--tower", type=Path, default=TOWER, help="the evidence tower's .onnx file")
    parser.add_argument("--parameters", type=Path, required=True, help="file to write the parameters to, .json")
    parser.add_argument("--results", type=Path, help="file to write the figures to, .json; reads the test part")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seen = look(list(read_examples(given.packages)), given.tower)
    fitting = [each for each in seen if each.example.part == FIT]
    survey = fit_survey()
    shares = cross_validate(fitting, survey)
    parameters = parameters_of(fit(fitting, survey), calibrate(fitting, shares))
    validation = _validation(fitting, shares, parameters)
    print(f"cross-validated: {json.dumps(validation)}")
    with write_atomically(given.parameters) as path:
        path.write_text(json.dumps(asdict(parameters)) + "\n", encoding="utf-8")
    if given.results is not None:
        testing = [each for each in seen if each.example.part == TEST]
        report = provenance() | {"cross-validated": validation} | _test(testing, parameters)
        with write_atomically(given.results) as path:
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(report, indent=1))


def _validation(seen: Sequence[Seen], shares: NDArray[np.float64], parameters: ColourParameters) -> dict[str, Any]:
    said: list[str | None] = []
    for row in shares:
        probabilities = colour.calibrate(row, parameters)
        best = int(probabilities.argmax())
        said.append(COLOURS[best] if probabilities[best] >= parameters.threshold else None)
    out: dict[str, Any] = {}
    for kind in ("cut-out", "photograph"):
        chosen = [index for index, each in enumerate(seen) if each.example.kind == kind]
        out[kind] = summary([seen[index].example for index in chosen], [said[index] for index in chosen])
    return out


def _test(seen: Sequence[Seen], parameters: ColourParameters) -> dict[str, Any]:
    out: dict[str, Any] = {"threshold": parameters.threshold, "ms_per_reading": _milliseconds(seen, parameters)}
    for kind in ("cut-out", "photograph"):
        chosen = [each for each in seen if each.example.kind == kind]
        examples = [each.example for each in chosen]
        strict = measure(chosen, replace(parameters, threshold=0.85))
        tables = [drawn_table(each) for each in chosen]
        out[kind] = {
            "this measure": measure(chosen, parameters),
            "said from 0.85 on": {key: strict[key] for key in ("said", "right", "right_where_said", "proportion_said")},
            "drawn table, whole crop": summary(examples, [whole for whole, _ in tables]),
            "drawn table, activation map and rim agree": summary(examples, [under for _, under in tables]),
        }
    out["share of the weight that lies on the object"] = mask_quality(seen)
    return out


if __name__ == "__main__":
    main()
