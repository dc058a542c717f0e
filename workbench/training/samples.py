"""Regions of a data set as training samples: stochastic nested views, control words, tokens.

A sample is a pure function of (data, seed, epoch, index), so that a resumed run sees the batches of an uninterrupted
one whatever the number of reading processes.

Shapes: R = regions, V = views, L = tokens, W = control tokens, T = tags, S = side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.crops import ViewBatch, cut_views
from dynrefer.model.errors import AnnotatedImageError, QueryError
from dynrefer.model.geometry import Box
from dynrefer.model.images import Pixels, annotated_image
from dynrefer.model.types import Corners, ViewPlan, ViewPolicy
from dynrefer.model.views import STEPS, nested_views
from dynrefer.workbench.data.bad_samples import BadSample
from dynrefer.workbench.data.captions import PhraseFinder
from dynrefer.workbench.data.frames import Frame, is_stored, upright_boxes
from dynrefer.workbench.data.listed_files import missing_hint
from dynrefer.workbench.data.region_table import Region, RegionTable
from dynrefer.workbench.errors import BadSampleError
from dynrefer.workbench.training.caption_labels import caption_labels

_TRIES = 100  # samples tried in place of a bad one; with at most 1 % bad, all fail with probability 1e-200
_DROP_ALL = _DROP_EACH = 0.5


@dataclass(frozen=True)
class SampleOptions:
    """The sizes that the network expects, the seed of views, control words and replacements, and the boxes' frame."""

    seed: int
    view_size: int
    num_views: int
    num_tags: int
    max_language_tokens: int
    max_text_tokens: int
    frame: Frame = Frame.AUTO


@dataclass
class TrainingBatch:
    """R regions, each with one caption.

    images: (R, V, 3, S, S) uint8. boxes: (R, V, 4) float32, the region in each view, view pixels. caption_ids: (R, L)
    int64 of the text tower. labels: (R, L) int64 of the language model, `IGNORED` at padding. control_ids,
    control_mask: (R, W) int64. tags: (R, T) float32, 0 or 1. bad: samples that were replaced because they are bad.
    stored: paths of the images whose boxes are those of the image as it is stored.
    """

    images: Tensor
    boxes: Tensor
    caption_ids: Tensor
    labels: Tensor
    control_ids: Tensor
    control_mask: Tensor
    tags: Tensor
    bad: tuple[BadSample, ...]
    stored: tuple[str, ...] = ()

    def to(self, device: torch.device) -> TrainingBatch:
        """The batch on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("bad", "stored")}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class UnreadableBatch:
    """In place of a batch: many samples in a row could not be read."""

    bad: tuple[BadSample, ...]
    stored: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sample:
    views: ViewBatch
    region: Region
    controls: str
    stored: bool


class RegionSamples:
    """Batches of samples by index. tokenizers: of the text tower and of the language model."""

    def __init__(
        self, regions: RegionTable, tokenizers: tuple[Any, Any], finder: PhraseFinder, tags: Sequence[str],
        options: SampleOptions,
    ) -> None:  # fmt: skip
        self.regions, self.options = regions, options
        self._text_tokenizer, self._language_tokenizer = tokenizers
        self._finder, self._tags = finder, tuple(tags)

    def __len__(self) -> int:
        return len(self.regions)

    def batch(self, indices: Sequence[int], epoch: int) -> TrainingBatch | UnreadableBatch:
        """The samples at `indices`; a bad one is replaced by another, so that batches keep their size.

        epoch: from 0; -1 is validation.
        """
        bad: list[BadSample] = []
        samples = []
        for index in indices:
            sample = self._readable(int(index), epoch, bad)
            if sample is None:
                return UnreadableBatch(tuple(bad))
            samples.append(sample)
        return self._collate(samples, bad)

    def _readable(self, index: int, epoch: int, bad: list[BadSample]) -> _Sample | None:
        """The sample, or a random other one if it is bad; None after many tries."""
        others = np.random.default_rng((self.options.seed, epoch + 1, index, 1))
        for _ in range(_TRIES):
            try:
                return self._sample(index, epoch)
            except BadSampleError as error:
                bad.append(BadSample(self.regions[index].name, str(error)))
                index = int(others.integers(len(self.regions)))
        return None

    def _sample(self, index: int, epoch: int) -> _Sample:
        region, rng = self.regions[index], np.random.default_rng((self.options.seed, epoch + 1, index, 0))
        read = read_image(region, self.regions.image_boxes(index), self.options.frame)
        size = (read.pixels.shape[1], read.pixels.shape[0])
        try:
            box = Box(*read.box).clip(size)
        except QueryError as error:
            raise BadSampleError(str(error).rstrip(".")) from error
        # t = 0 first, the others at random and in random order (paper, section 3.2).
        others = rng.choice(STEPS, self.options.num_views - 1, replace=False).tolist()
        plan = ViewPlan(nested_views(box, size, others), ViewPolicy.FIXED)
        phrases = [*self._finder.phrases(region.caption), *(self._tags[tag] for tag in region.tags)]
        views = cut_views(read.pixels, plan, self.options.view_size)
        return _Sample(views, region, drop_words(phrases, rng), read.stored)

    def _collate(self, samples: Sequence[_Sample], bad: Sequence[BadSample]) -> TrainingBatch:
        options, captions = self.options, [sample.region.caption for sample in samples]
        language = {"padding": True, "truncation": True, "max_length": options.max_language_tokens}
        texts = self._text_tokenizer(
            captions, padding=True, truncation=True, max_length=options.max_text_tokens, return_tensors="pt"
        )
        controls = self._language_tokenizer([s.controls for s in samples], return_tensors="pt", **language)
        tags = torch.zeros(len(samples), options.num_tags)
        for row, sample in enumerate(samples):
            tags[row, list(sample.region.tags)] = 1.0
        return TrainingBatch(
            images=torch.from_numpy(np.stack([sample.views.images for sample in samples])),
            boxes=torch.from_numpy(np.stack([sample.views.boxes for sample in samples])),
            caption_ids=texts["input_ids"],
            labels=caption_labels(self._language_tokenizer, captions, options.max_language_tokens),
            control_ids=controls["input_ids"],
            control_mask=controls["attention_mask"],
            tags=tags,
            bad=tuple(bad),
            stored=tuple(sorted({sample.region.image for sample in samples if sample.stored})),
        )


class RegionImage(NamedTuple):
    """pixels: (H, W, 3) uint8 RGB, upright. box: the region's, in their frame, xyxy pixels. stored: as `is_stored`."""

    pixels: Pixels
    box: Corners
    stored: bool


def read_image(region: Region, boxes: Iterable[Corners], frame: Frame = Frame.AUTO) -> RegionImage:
    """The image of a region. boxes: all of that image, by which AUTO decides their frame. Raises `BadSampleError`."""
    path = Path(region.image)
    try:
        image = annotated_image(path)
        stored = is_stored(image.info, region.listed_size, boxes, frame)
    except AnnotatedImageError as error:
        raise BadSampleError(f"{error}{'' if path.exists() else missing_hint(region.image)}") from error
    (box,) = upright_boxes([region.box], image.info, stored=stored)
    return RegionImage(image.pixels, box, stored)


def drop_words(phrases: Sequence[str], rng: np.random.Generator) -> str:
    """Control words as the language model reads them: shuffled, separated by commas, closed with "|".

    All are dropped with probability 0.5, otherwise each with probability 0.5. Source: paper, section 3.3, and the
    released training code.
    """
    if rng.random() < _DROP_ALL:
        return "|"
    kept = [phrase for phrase in dict.fromkeys(phrases) if rng.random() >= _DROP_EACH]
    rng.shuffle(kept)
    return ",".join(kept) + "|"
