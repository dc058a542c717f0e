"""What a run learns from: corrected regions, and drawn ones so that the rest is not forgotten.

Shapes: N = regions, P = view plans, Q = queries, C = channels, K, T, A = categories, tags, attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.evidence.evidence import FOLDER
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.evidence.noun_phrases import Noun
from dynrefer.model.types import Task
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.captions import VocabularyWords
from dynrefer.workbench.data.corrections import Correction
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.caption_labels import caption_labels
from dynrefer.workbench.training.corrections.caption_examples import (
    CaptionExample,
    control_text,
    placeholder_caption,
    writable,
)
from dynrefer.workbench.training.corrections.heads import HeadBatch
from dynrefer.workbench.training.corrections.words import LISTS, Judged, KnownWords, judge
from dynrefer.workbench.training.embedded.caption_forms import control_words, draw_form
from dynrefer.workbench.training.embedded.drawn_batches import draw_pool
from dynrefer.workbench.training.embedded.stored_pictures import draw_storage, store
from dynrefer.workbench.training.initial_model import InitialModel

FIRST_SCENE = 2_000_000_000  # of rehearsal: no other training draws from here on
_SCENES_PER_SEED = 1_000_000
_STORED = 0.5  # proportion of the drawn scenes that are stored as JPEG first
_LEAST_RENAMED = 3  # corrections to new words, after which a name that none confirms is not rehearsed


@dataclass(frozen=True)
class CaptionBatch:
    """R regions with a caption each, as the language model takes them; as in `samples.TrainingBatch`."""

    representation: Tensor
    control_ids: Tensor
    control_mask: Tensor
    labels: Tensor


# (region, random numbers) -> control words and caption.
Write = Callable[[int, np.random.Generator], tuple[str, str]]


@dataclass(frozen=True)
class Pool:
    """N regions to learn from. representation: (N, P, Q, C). listed: those that the heads see. captioned: those with a
    caption that can be taught."""

    representation: Tensor
    judged: Judged
    listed: NDArray[np.intp]
    captioned: NDArray[np.intp]
    write: Write


class Batches:
    """Batches of corrected and rehearsed regions, each a function of (seed, kind, step)."""

    def __init__(
        self, corrected: Pool, rehearsed: Pool | None, share: float, size: int, seed: int, initial: InitialModel
    ) -> None:
        self._pools, self._size, self._seed = (corrected, rehearsed), size, seed
        self._share = 0.0 if rehearsed is None else share
        self._initial = initial

    def heads(self, step: int) -> HeadBatch:
        """Regions with what is judged of their words."""
        rng = np.random.default_rng((self._seed, 2, step))
        parts = self._drawn(rng, [None if pool is None else pool.listed for pool in self._pools])
        tables = [
            torch.from_numpy(np.concatenate([pool.judged.of(task)[rows] for pool, rows, _ in parts])) for task in LISTS
        ]
        rehearsed = [torch.full((len(rows),), pool is not self._pools[0]) for pool, rows, _ in parts]
        categories, tags, attributes = tables
        return HeadBatch(
            torch.cat([views for _, _, views in parts]), categories, tags, attributes, torch.cat(rehearsed)
        )

    def captions(self, step: int) -> CaptionBatch:
        """Regions with a caption."""
        rng = np.random.default_rng((self._seed, 3, step))
        parts = self._drawn(rng, [None if pool is None else pool.captioned for pool in self._pools])
        texts = [pool.write(int(row), rng) for pool, rows, _ in parts for row in rows]
        tokenizer, longest = self._initial.language_tokenizer, self._initial.network.config.max_control_tokens
        controls = tokenizer(
            [words for words, _ in texts], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return CaptionBatch(
            torch.cat([views for _, _, views in parts]),
            controls["input_ids"],
            controls["attention_mask"],
            caption_labels(tokenizer, [caption for _, caption in texts], longest),
        )

    def _drawn(
        self, rng: np.random.Generator, choices: Sequence[NDArray[np.intp] | None]
    ) -> list[tuple[Pool, NDArray[np.intp], Tensor]]:
        corrected, rehearsed = self._pools
        own, others = choices
        again = round(self._size * self._share) if others is not None and len(others) else 0
        parts = [(corrected, own, self._size - again), (rehearsed, others, again)]
        found = []
        for pool, rows, count in parts:
            if pool is not None and rows is not None and count:
                picked = rng.choice(rows, count)
                plans = rng.integers(pool.representation.shape[1], size=count)
                found.append((pool, picked, pool.representation[torch.from_numpy(picked), torch.from_numpy(plans)]))
        return found


def corrected_pool(
    initial: InitialModel, corrections: Sequence[Correction], known: KnownWords, representation: Tensor
) -> tuple[Pool, list[str]]:
    """The corrected regions to learn from; and sentences about captions that cannot be taught."""
    examples, told = _caption_examples(initial, corrections, known, representation)
    finder, placeholder = VocabularyWords(initial.vocabulary), initial.network.config.noun_placeholder
    captioned = np.array([row for row, each in enumerate(examples) if each is not None], dtype=np.intp)

    def write(row: int, rng: np.random.Generator) -> tuple[str, str]:
        example = examples[row]
        assert example is not None  # `captioned` holds the others only
        return control_text(example, finder, placeholder, rng), example.caption

    judged = judge(corrections, known, corrections)
    listed = np.unique(np.concatenate([judged.rows(task) for task in LISTS]))
    return Pool(representation, judged, listed, captioned, write), told


def _caption_examples(
    initial: InitialModel, corrections: Sequence[Correction], known: KnownWords, representation: Tensor
) -> tuple[list[CaptionExample | None], list[str]]:
    placeholder, noun_of = initial.network.config.noun_placeholder, _nouns(initial)
    said, found, refused = tags_of(initial, representation[:, 0]), list[CaptionExample | None](), list[str]()
    for each, tags in zip(corrections, said, strict=True):
        caption = None if each.caption is None else writable(each.caption, initial.language_tokenizer)
        judged = [known.names[Task.TAGS][place] for word in each.tags or () if (place := known.place(Task.TAGS, word))
                  is not None]  # fmt: skip
        words = tuple(judged) if each.tags is not None else tags
        if caption is not None and placeholder is not None:
            words = tuple(word for word in words if word not in initial.vocabulary.categories)
            caption = placeholder_caption(caption, _names(each, known, caption), placeholder, noun_of)
            if caption is None:
                refused.append(f"{each.where} ({each.caption!r})")
        found.append(None if caption is None else CaptionExample(caption, words))
    if not refused:
        return found, []
    return found, [
        f"{len(refused)} captions do not hold their region's name, for which this model writes a placeholder, and are "
        f"not learned: {', '.join(refused[:3])}{', ...' * (len(refused) > 3)}."
    ]


def _names(each: Correction, known: KnownWords, caption: str) -> list[str]:
    """What the noun of the caption may be: the region's category, else any category of the model's, longest first."""
    if each.category is not None:
        return [each.category, each.category.lower()]
    return sorted((name for name in known.names[Task.CATEGORIES] if name in caption), key=len, reverse=True)


def _nouns(initial: InitialModel) -> Callable[[str], Noun]:
    path = initial.directory / FOLDER / NAMES_FILE
    if initial.network.config.evidence is None or not path.exists():
        return Noun
    return EvidenceNames.load(path).noun


@torch.no_grad()
def tags_of(initial: InitialModel, representation: Tensor) -> list[tuple[str, ...]]:
    """The model's tags above its threshold, best first; representation: (N, Q, C)."""
    network, device = initial.network, initial.network.query_tokens.device
    found = []
    for part in representation.split(256):
        scores = network.tag_decoder(part.to(device), initial.texts.tags.to(device)).sigmoid().cpu()
        for row in scores:
            order = [place for place in row.argsort(descending=True).tolist() if row[place] > _threshold(network)]
            found.append(tuple(initial.vocabulary.tags[place] for place in order))
    return found


def _threshold(network: Any) -> float:
    return float(network.config.thresholds["tags"])


@torch.no_grad()
def renamed(initial: InitialModel, judged: Judged, representation: Tensor) -> frozenset[str]:
    """Names of the model that the corrections replace by words that are new, and never confirm.

    representation: (N, Q, C). They are not rehearsed, or the rehearsal would keep what was corrected away.
    """
    network, device = initial.network, initial.network.query_tokens.device
    texts = initial.texts.categories.to(device)
    scores = [network.region_text_decoder(part.to(device), texts).cpu() for part in representation.split(256)]
    rows = judged.rows(Task.CATEGORIES)
    names = initial.vocabulary.categories
    said, right = torch.cat(scores).argmax(dim=1).numpy()[rows], judged.categories[rows].argmax(axis=1)
    counts, confirmed = Counter(said[right >= len(names)].tolist()), set(right.tolist())
    found = {place for place, count in counts.items() if count >= _LEAST_RENAMED and place not in confirmed}
    return frozenset(names[place] for place in found)


def knows_drawn_world(known: KnownWords, world: World) -> bool:
    """Whether the vocabulary holds every word of the drawn scenes, so that they can be rehearsed and measured."""
    wanted = {
        Task.TAGS: world.tags,
        Task.ATTRIBUTES: tuple(attribute.name for attribute in world.attributes),
        Task.CATEGORIES: tuple(category.name for category in world.categories),
    }
    return all(set(names) <= set(known.names[task]) for task, names in wanted.items())


def draw_scenes(count: int, seed: int, offset: int, processes: int, world: World) -> RegionSet:
    """`count` training scenes that no other training draws, half of them as they come back from a JPEG."""
    scenes = draw_pool(FIRST_SCENE + _SCENES_PER_SEED * seed + offset, count, processes)
    rng = np.random.default_rng((seed, 4, offset))
    return RegionSet(world, tuple(_stored(scene, rng) for scene in scenes))


def _stored(scene: Scene, rng: np.random.Generator) -> Scene:
    storage = draw_storage(rng, _STORED)
    return scene if storage is None else store(scene, storage)


def drawn_judged(drawn: RegionSet, known: KnownWords) -> Judged:
    """The ground truth of drawn regions in the model's words; new words are wrong for all of them."""
    categories = np.zeros((len(drawn), len(known.names[Task.CATEGORIES])), np.int8)
    tags = np.zeros((len(drawn), len(known.names[Task.TAGS])), np.int8)
    attributes = np.full((len(drawn), len(known.names[Task.ATTRIBUTES])), -1, np.int8)
    places = {task: np.array([known.names[task].index(name) for name in names]) for task, names in drawn.names.items()}
    categories[np.arange(len(drawn)), places[Task.CATEGORIES][drawn.categories]] = 1
    tags[:, places[Task.TAGS]] = drawn.tags
    attributes[:, places[Task.ATTRIBUTES]] = drawn.attributes
    return Judged(categories, tags, attributes)


def _nothing_new(before: Vocabulary, known: KnownWords, regions: int) -> Judged:
    """Nothing known, but that no new tag or attribute is right."""
    sizes = {task: len(known.names[task]) for task in LISTS}
    tags = np.full((regions, sizes[Task.TAGS]), -1, np.int8)
    tags[:, len(before.tags) :] = 0
    attributes = np.full((regions, sizes[Task.ATTRIBUTES]), -1, np.int8)
    attributes[:, len(before.attributes) :] = 0
    return Judged(np.full((regions, sizes[Task.CATEGORIES]), -1, np.int8), tags, attributes)


def rehearsed_pool(
    initial: InitialModel, drawn: RegionSet, known: KnownWords, without: frozenset[str], representation: Tensor,
    *, captions: bool,
) -> Pool:  # fmt: skip
    """The drawn regions that are no `without`; what the model says of them is kept, and new words are wrong.

    captions: whether their captions are rehearsed.
    """
    kept = np.array([row for row, each in enumerate(drawn.objects) if each.category not in without], dtype=np.intp)
    objects, world = drawn.objects, drawn.world
    placeholder = initial.network.config.noun_placeholder is not None

    def write(row: int, rng: np.random.Generator) -> tuple[str, str]:
        each = objects[int(kept[row])]
        caption = str(rng.choice(each.captions))
        return (
            draw_form(each, caption, world, rng) if placeholder else (control_words(caption, each.tags, rng), caption)
        )

    judged = _nothing_new(initial.vocabulary, known, len(kept))
    captioned = np.arange(len(kept) if captions else 0, dtype=np.intp)
    return Pool(representation[torch.from_numpy(kept)], judged, np.arange(len(kept)), captioned, write)
