"""One run of the ablation: a small network on the frozen towers of a trained model, its training and evaluation.

Shapes: R = regions, V = views per region, S = view side in pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.ablation_data import Length, Variant, VariantData, ViewRule, choose_views, cut
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.decoders import synonym_maximum
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import QueryResults
from dynrefer.workbench.evaluation.metrics.recognition import best_threshold
from dynrefer.workbench.evaluation.metrics.scene_metrics import scene_metrics
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.drawn_batches import DataOptions, RegionBatch
from dynrefer.workbench.training.embedded.joint import JointTraining, JointWeights

_WARM_UP = 0.1  # of the steps
_LEARNING_RATE = 1e-3
_WEIGHTS = JointWeights(attributes=10.0, tags=0.15)
_BATCH = 64  # regions at evaluation

# A third of the embedded model's widths, and one layer where it has two or three.
_SMALL_QFORMER = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192}
_SMALL_LANGUAGE = {"d_model": 96, "d_kv": 24, "d_ff": 192, "num_layers": 1, "num_decoder_layers": 1}
_SMALL: dict[str, Any] = {"num_queries": 8, "decoder_width": 64, "decoder_intermediate": 128, "decoder_layers": 1}


class VariantTraining(JointTraining):
    """Joint training without some loss terms."""

    without: tuple[str, ...] = ()
    last_loss = float("nan")  # mean over the last 20 steps

    def losses(self, batch: RegionBatch) -> dict[str, Tensor]:
        """The loss terms that are kept."""
        return {name: term for name, term in super().losses(batch).items() if name not in self.without}


def small_network(loaded: LoadedModel, views: int) -> DynReferModel:
    """A network with the loaded model's towers; everything else is small and randomly initialised."""
    old = loaded.network.config
    parts = {part: getattr(old, part).to_dict() for part in ("vision_config", "text_config")}
    parts["qformer_config"] = old.qformer_config.to_dict() | _SMALL_QFORMER
    parts["language_config"] = old.language_config.to_dict() | _SMALL_LANGUAGE
    kept = ("view_size", "image_mean", "image_std", "roi_size", "align_residual", "decoder_norm_eps", "decoder_dropout")
    same = {name: getattr(old, name) for name in (*kept, "tie_language_head", "generation")}
    network = DynReferModel(DynReferConfig(**parts, **same, **_SMALL, num_views=views))
    network.vision.load_state_dict(loaded.network.vision.state_dict())
    network.text.load_state_dict(loaded.network.text.state_dict())
    nn.init.constant_(network.region_text_bias, -5.0)  # the paper's -10 is for batches of 512
    return network


@dataclass(frozen=True)
class Shared:
    """What all runs share. loaded: the model whose towers are used. text_tokenizer: its own. regions: unseen ones."""

    loaded: LoadedModel
    text_tokenizer: Any
    world: World
    pool: Sequence[Scene]
    regions: RegionSet


def train_variant(variant: Variant, seed: int, length: Length, shared: Shared) -> VariantTraining:
    """Train the variant's network from random weights; deterministic in `seed`."""
    torch.manual_seed(seed)
    network = small_network(shared.loaded, variant.views)
    vocabulary, texts = shared.loaded.vocabulary, shared.loaded.texts
    module = VariantTraining(network, shared.world, vocabulary, texts, vision=False, weights=_WEIGHTS)
    module.without = variant.without
    options = DataOptions(1_000 + seed, 0, length.scenes, length.steps, network.config.view_size)
    tokenizers = (shared.text_tokenizer, shared.loaded.language_tokenizer)
    data = VariantData(variant, shared.world, shared.pool, tokenizers, options)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=length.steps, pct_start=_WARM_UP)
    module.train()
    losses: list[float] = []
    for step in tqdm(range(length.steps), desc=f"{variant.name}, seed {seed}", mininterval=5, disable=None):
        loss = torch.stack(list(module.losses(data[step]).values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 2.0)
        optimiser.step()
        rate.step()
        losses.append(float(loss.detach()))
    module.last_loss = float(np.mean(losses[-20:]))
    module.eval()
    return module


@torch.no_grad()
def measure_variant(module: VariantTraining, variant: Variant, rule: ViewRule, shared: Shared) -> dict[str, Estimate]:
    """`scene_metrics` with the best threshold for tags; captions are generated without control words."""
    loaded, regions = shared.loaded, shared.regions
    results = QueryResults(ALL_TASKS, regions)
    names = regions.names
    first = 0
    for images, boxes in _view_batches(variant, rule, regions, module.model.config.view_size):
        region = module.model.represent(module.model.encode(images), boxes)
        decode = module.model.region_text_decoder
        prompts = decode(region, loaded.texts.attributes)
        found = {
            Task.TAGS: module.model.tag_decoder(region, loaded.texts.tags).sigmoid(),
            Task.ATTRIBUTES: synonym_maximum(prompts, module.owner, len(loaded.vocabulary.attributes)),
            Task.CATEGORIES: decode(region, loaded.texts.categories),
        }
        known = {
            Task.TAGS: loaded.vocabulary.tags,
            Task.ATTRIBUTES: tuple(attribute.name for attribute in loaded.vocabulary.attributes),
            Task.CATEGORIES: loaded.vocabulary.categories,
        }
        for task, scores in found.items():
            columns = [known[task].index(name) for name in names[task]]
            results.scores[task][first : first + len(region)] = scores.double().numpy()[:, columns]
        results.captions += _captions(module, region, loaded)
        first += len(region)
    threshold = best_threshold(results.scores[Task.TAGS], regions.tags)[0]
    return _trained_only(scene_metrics(regions, results, threshold), variant)


def _view_batches(
    variant: Variant, rule: ViewRule, regions: RegionSet, view_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Views, (R * V, 3, S, S) uint8, and boxes, (R, V, 4) float32, of `_BATCH` regions at a time."""
    pairs = [(scene, obj) for scene in regions.scenes for obj in scene.objects]
    for start in range(0, len(pairs), _BATCH):
        images: list[NDArray[np.uint8]] = []
        boxes = []
        for row, (scene, obj) in enumerate(pairs[start : start + _BATCH], start):
            ts = choose_views(variant, rule, np.random.default_rng((row, variant.views)), scene, obj.box)
            views, inside = cut(scene, obj.box, ts, view_size)
            images += views
            boxes.append(inside)
        yield torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(boxes))


def _captions(module: VariantTraining, region: Tensor, loaded: LoadedModel) -> list[str]:
    words = loaded.language_tokenizer(["|"] * len(region), return_tensors="pt")
    found = module.model.language.generate(region, words.input_ids, words.attention_mask)
    return [loaded.language_tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in found.tokens.tolist()]


def _trained_only(metrics: dict[str, Estimate], variant: Variant) -> dict[str, Estimate]:
    """Leave out the metrics of outputs that were not trained, which are noise."""
    untrained = {
        "language": ("relation", "cider"),
        "tags": ("tag_f1",),
        "category": ("class",),
        "attribute": ("attribute_map", "colour_map"),
    }
    left_out = {name for term in variant.without for name in untrained.get(term, ())}
    return {name: metric for name, metric in metrics.items() if name not in left_out}


def run_variant(variant: Variant, seed: int, length: Length, shared: Shared) -> list[dict[str, Any]]:
    """Train once and evaluate in each of the variant's ways: one JSON-ready record per way."""
    started = time.perf_counter()
    module = train_variant(variant, seed, length, shared)
    seconds = round(time.perf_counter() - started, 1)
    records = []
    for name, rule in variant.evaluations:
        metrics = measure_variant(module, variant, rule, shared)
        values = {metric: round(estimate.value or 0.0, 4) for metric, estimate in metrics.items()}
        about = {"row": name, "variant": variant.name, "seed": seed, "loss": round(module.last_loss, 3)}
        records.append({**about, "figures": values, "seconds": seconds})
    return records
