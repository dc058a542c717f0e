"""A reproducible workload: a model of a preset's sizes with random weights, and random regions as its input."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import CharDelimiterSplit
from transformers import PreTrainedTokenizerFast

from dynrefer.model.cache import view_digest
from dynrefer.model.crops import ViewBatch
from dynrefer.model.loading import LoadedModel, for_device
from dynrefer.model.networks.dynrefer.config import DynReferConfig, preset
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.batch_invariance import is_batch_invariant
from dynrefer.model.networks.kernels.choice import choose_kernels
from dynrefer.model.preparation import RegionInput
from dynrefer.model.types import Task, View, ViewPlan, ViewPolicy
from dynrefer.model.vocabulary import Attribute, TextEmbeddings, Vocabulary

CONTROLS = tuple(f"w{number}" for number in range(64))  # more than `max_control_tokens` of any preset


@dataclass(frozen=True)
class Workload:
    """The work per region: texts per decoder; captions of exactly `tokens` new tokens with `beams` beams."""

    tags: int = 4585
    prompts: int = 474
    attributes: int = 117
    categories: int = 80
    tokens: int = 20
    beams: int = 2


def random_config(name: str, work: Workload) -> DynReferConfig:
    """The preset, with captions of exactly the workload's number of tokens."""
    generation = {
        **preset(name).generation,
        "num_beams": work.beams,
        "max_new_tokens": work.tokens,
        "min_length": work.tokens + 1,  # the start token counts
    }
    # No tag exceeds this threshold, so the control words are the inputs' own, always of the greatest length.
    return preset(name, generation=generation, thresholds={"tags": 1.0})


def random_network(config: DynReferConfig, device: torch.device, dtype: torch.dtype) -> DynReferModel:
    """Random weights, made on the device and in the dtype of their use, because converting needs more memory."""
    torch.manual_seed(0)
    with torch.device(device):
        # untyped in transformers
        network: DynReferModel = DynReferModel._from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    network.qformer.float()  # as the released model has it, and as loading leaves it
    for kept in (network.query_tokens, network.region_text_temperature, network.region_text_bias):
        kept.data = kept.data.float()
    network.image_mean, network.image_std = network.image_mean.float(), network.image_std.float()
    network.train(False)
    network.requires_grad_(False)
    return network


def random_model(
    config: DynReferConfig, work: Workload, device: torch.device, dtype: torch.dtype, *, plain: bool = False
) -> LoadedModel:
    """A `LoadedModel` with random weights and texts. config: usually from `random_config`.

    plain: with transformers' own layers and without slots, for the reference path; the weights are the same.
    """
    network, vocabulary = random_network(config, device, dtype), random_vocabulary(work)
    if not plain:
        choose_kernels(network, device)
    texts = random_texts(config, work)
    moved = [getattr(texts, name).to(device, dtype) for name in ("tags", "attributes", "categories")]
    invariant = is_batch_invariant(network, min(map(len, moved)))
    tokenizer = random_tokenizer(config.language_config.vocab_size)
    found = LoadedModel(network, vocabulary, TextEmbeddings(*moved), tokenizer, device, dtype, math.e, 0.0, invariant)
    return found if plain else for_device(found)


def random_texts(config: DynReferConfig, work: Workload) -> TextEmbeddings:
    """Random embeddings of all texts, float32 on the CPU."""
    generator = torch.Generator().manual_seed(1)
    width = config.text_config.projection_dim
    counts = (work.tags, work.prompts, work.categories)
    return TextEmbeddings(*(torch.randn(count, width, generator=generator) for count in counts))


def random_inputs(config: DynReferConfig, regions: int, tasks: tuple[Task, ...]) -> list[RegionInput]:
    """`regions` inputs, no two of whose views are equal."""
    rng = np.random.default_rng(2)
    size, views = config.view_size, config.num_views
    plan = ViewPlan(tuple(View(0.0, (0.0, 0.0, 1.0, 1.0)) for _ in range(views)), ViewPolicy.FIXED)
    inputs = []
    for _ in range(regions):
        images = rng.integers(0, 256, (views, 3, size, size), dtype=np.uint8)
        low = rng.integers(0, size // 2, (views, 2))
        high = low + rng.integers(size // 8, size // 2, (views, 2))
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        inputs.append(RegionInput(plan, tasks, ViewBatch(images, boxes, tuple(map(view_digest, images))), CONTROLS))
    return inputs


def random_vocabulary(work: Workload) -> Vocabulary:
    """Made-up names; the synonyms are spread over the attributes, with two prompts each."""
    synonyms = np.array_split(np.arange(work.prompts // 2), work.attributes)
    attributes = tuple(
        Attribute(f"kind:a{number}", "kind", tuple(f"s{each}" for each in some), "is")
        for number, some in enumerate(synonyms)
    )
    return Vocabulary(
        tuple(f"t{number}" for number in range(work.tags)),
        attributes,
        tuple(f"c{number}" for number in range(work.categories)),
    )


def random_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """One token per control word; anything else is unknown."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: 3 + number for number, word in enumerate(CONTROLS)}
    assert len(words) <= size
    words_only = Tokenizer(WordLevel(words, unk_token="<unk>"))
    words_only.pre_tokenizer = CharDelimiterSplit(",")
    return PreTrainedTokenizerFast(tokenizer_object=words_only, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
