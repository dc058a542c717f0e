"""The embedded finder: one network that knows drawings, one detector that knows photographs, names by their places.

Which of the two an image is for, the evidence's tower says, which looks at the image as a whole; where that is unsure,
both search it. The network says of every place what part of its own list of names is there, and the describer looks
closer at the best of them (`closer_look.py`); a request's word is a row of weights on the describer's categories
(`evidence/word_placement.py`), so that words do not touch each other. Likewise COCO's names, which the detector knows.
A word for things in photographs that it does not know has no score: then the describer looks at all of them.

Shapes: N = candidates, T = texts, C = the describer's categories, K = the names of photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.errors import ConfigError, raise_if_stopped
from dynrefer.model.evidence.evidence import Evidence
from dynrefer.model.evidence.word_placement import PlacedWord, WordPlacement
from dynrefer.model.find_names import texts_of
from dynrefer.model.finding import Candidates, FinderInput
from dynrefer.model.networks.finder.closer_look import CloserLook
from dynrefer.model.networks.finder.network import FinderMaps, mask_logits
from dynrefer.model.networks.finder.preparation import EmbeddedFinderSpec, scaled_size
from dynrefer.model.networks.finder.weights import FinderFiles, load_files
from dynrefer.model.request_vocabulary import UnknownWord
from dynrefer.model.score_reading import ScoreReading
from dynrefer.model.suppression import averaged, suppress

Floats = NDArray[np.float32]

SIDE, PHOTOGRAPH_SIDE = 384, 640  # longest sides of the image, pixels
_MOST = 100  # candidates of an image
_SAME = 0.75  # boxes that overlap by more are one candidate
_LEAST_DRAWN, _LEAST_PHOTOGRAPHED = 0.05, 0.05  # objectness of a candidate
_LEAST_SIDE = 1.0  # pixels of the upright image
_APART = 0.6  # of candidates that overlap by more, the describer looks at the best
_PLACES = 300  # of the map are looked at, those with the best objectness
_KNOWN = 0.5  # part of one of COCO's names that a word has to name, for the detector to speak
_LOOKS = 12  # so many candidates at most the describer looks at closer
_WORTH_A_LOOK = 0.15  # objectness
_FIRST_LOOK = 0.15  # what the network's own word counts beside the describer's
_ONE_BOX = 0.8  # neighbouring places whose boxes overlap by more speak of one object: its box is their mean


@dataclass(frozen=True)
class _Found:
    """What one of the two found. boxes: (N, 4) float32 xyxy, upright pixels. objectness: (N,). names: (N, T), NaN where
    it does not know the text. masks: (N, h, w) float16 or None."""

    boxes: Floats
    objectness: Floats
    names: Floats
    masks: NDArray[np.float16] | None = None


@dataclass(frozen=True)
class FinderSettings:
    """What was measured for a finder, on scenes that are neither trained nor evaluated on.

    reading: how scores of drawings are read. residual, slope: an image's probability of being a photograph is the
    logistic function of slope x (r - residual), r the log of what drawings leave unexplained of it. unsure: below this
    distance from 0 and 1 both look at it.
    """

    residual: float = 0.45
    slope: float = 4.0
    unsure: float = 0.15
    reading: ScoreReading = ScoreReading()

    @classmethod
    def from_mapping(cls, given: dict[str, Any], path: Path) -> FinderSettings:
        """Raises `ConfigError`."""
        if odd := set(given) - set(cls.__dataclass_fields__):
            raise ConfigError(f"{str(path)!r}: unknown key {sorted(odd)[0]!r}.")
        reading = ScoreReading.from_mapping(given.get("reading", {}), f"{str(path)!r}: 'reading'")
        given = {name: value for name, value in given.items() if name != "reading"}
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in given.values()):
            raise ConfigError(f"{str(path)!r}: every setting is a number.")
        return cls(**{name: float(value) for name, value in given.items()}, reading=reading)


class EmbeddedFinder:
    """A `Finder`. files: the network and its names. categories: the describer's, of which the names are some.

    text_embeddings: (C, E) float32 of the categories. One image at a time: so nothing depends on the batch.
    """

    def __init__(
        self,
        files: FinderFiles,
        settings: FinderSettings,
        categories: Sequence[str],
        text_embeddings: Tensor,
        evidence: Evidence,
        placement: WordPlacement,
        closer_look: CloserLook,
    ) -> None:
        self.spec = EmbeddedFinderSpec(SIDE, PHOTOGRAPH_SIDE)
        self.settings = settings
        # torch's stubs know no `to` with a memory format alone.
        self._network = files.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._places = [list(categories).index(name) for name in files.names]
        self._vectors = files.network.name_vectors(text_embeddings[self._places])
        self._num_categories = len(categories)
        self._evidence, self._placement, self._closer_look = evidence, placement, closer_look

    @classmethod
    def load(
        cls,
        directory: Path,
        categories: Sequence[str],
        text_embeddings: Tensor,
        evidence: Evidence,
        placement: WordPlacement,
        closer_look: CloserLook,
    ) -> EmbeddedFinder:
        """directory: with config.json and finder.safetensors. Raises as `load_files`."""
        files = load_files(directory)
        if odd := [name for name in files.names if name not in categories]:
            raise ConfigError(f"{str(directory)!r}: the finder knows {odd[0]!r}, which is no category of the model.")
        settings = FinderSettings.from_mapping(files.settings, directory / "config.json")
        return cls(files, settings, categories, text_embeddings, evidence, placement, closer_look)

    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> list[Candidates]:
        """See `Finder`."""
        found = []
        for image in images:
            raise_if_stopped(should_stop)
            found.append(self._search(image))
        return found

    def photograph_probability(self, image: FinderInput) -> float:
        """That an image is a photograph and no drawing."""
        seen = self._evidence.tower.run(image.more[1][None])
        residual = float(self._evidence.gate.drawn_images.log_residual(seen.map.mean(axis=(2, 3)))[0])
        return 1 / (1 + math.exp(-self.settings.slope * (residual - self.settings.residual)))

    def _search(self, image: FinderInput) -> Candidates:
        texts = texts_of(image.query)
        placed = self._placement.place(texts)
        photograph = self.photograph_probability(image)
        parts = []
        if photograph < 1 - self.settings.unsure:
            parts.append((1 - photograph, self._drawn(image, placed)))
        if photograph > self.settings.unsure:
            parts.append((photograph, self._photographed(image, placed)))
        if len(parts) == 1:
            parts = [(1.0, parts[0][1])]
        boxes = np.concatenate([part.boxes for _, part in parts])
        objectness = np.concatenate([sure * part.objectness for sure, part in parts])
        scores = np.concatenate([sure * part.names for sure, part in parts])
        kept = suppress(boxes, objectness, _SAME)[:_MOST]
        kept = kept[(boxes[kept, 2:] - boxes[kept, :2]).min(axis=1) >= _LEAST_SIDE]
        unknown = [word for word in placed if word.via == "none"]
        return Candidates(
            boxes=boxes[kept],
            objectness=objectness[kept].astype(np.float32),
            texts=texts,
            scores=scores[kept].astype(np.float32),
            presence=_presence(scores[kept]),
            photograph=photograph,
            mask_logits=_masks_of(parts, kept) if image.query.masks else None,
            unknown=tuple(UnknownWord(word.name, word.nearest) for word in unknown),
            # What was fitted on drawings says nothing of the detector of photographs.
            reading=self.settings.reading if photograph < 0.5 else ScoreReading(),
            kin=self._placement.kin(placed),
        )

    @torch.inference_mode()
    def _drawn(self, image: FinderInput, placed: Sequence[PlacedWord]) -> _Found:
        pixels = torch.from_numpy(np.array(image.pixels)).permute(2, 0, 1)[None]
        maps = self._network(pixels.contiguous(memory_format=torch.channels_last))
        objectness = maps.objectness[0].sigmoid().flatten()
        best = objectness.topk(min(_PLACES, len(objectness)))
        places = best.indices[best.values > _LEAST_DRAWN]
        boxes = on_image(maps.boxes[0].flatten(0, 1)[places].numpy(), image, SIDE)
        sure = objectness[places].numpy()
        kept = suppress(boxes, sure, _SAME)[:_MOST]
        boxes, sure = averaged(boxes, sure, kept, _ONE_BOX), sure[kept]
        places = places[torch.from_numpy(kept)]
        logits = self._network.name_logits(maps.embeddings[0].flatten(0, 1)[places], self._vectors)
        categories = np.zeros((len(kept), self._num_categories), dtype=np.float32)
        categories[:, self._places] = logits.softmax(-1).numpy()
        if placed:
            self._look_closer(image, boxes, sure, categories)
        names = _columns([self._of_drawing(word, categories) for word in placed], len(kept))
        masks = self._masks(maps, places, image) if image.query.masks else None
        return _Found(boxes, sure, np.sqrt(names * sure[:, None]), masks)

    def _look_closer(self, image: FinderInput, boxes: Floats, sure: Floats, categories: Floats) -> None:
        """Mix what the describer says of the best candidates into what the network says of them."""
        looked = suppress(boxes, sure, _APART)
        looked = looked[sure[looked] > _WORTH_A_LOOK][:_LOOKS]
        larger = image.more[0]
        side = self.spec.larger_side(image.size)
        scale = np.divide(scaled_size(image.size, side) * 2, image.size * 2, dtype=np.float32)
        said = self._closer_look.probabilities(larger, boxes[looked] * scale)
        categories[looked] = _FIRST_LOOK * categories[looked] + (1 - _FIRST_LOOK) * said

    def _of_drawing(self, word: PlacedWord, categories: Floats) -> Floats:
        """How much of what is at each candidate the word names, (N,); NaN where nothing is known of the word."""
        if word.via == "none":
            return np.full(len(categories), np.nan, dtype=np.float32)
        weights = np.zeros(self._num_categories, dtype=np.float32)
        weights[word.drawn.places] = word.drawn.values
        return np.asarray(np.minimum(categories @ weights, 1.0), dtype=np.float32)

    def _masks(self, maps: FinderMaps, places: Tensor, image: FinderInput) -> NDArray[np.float16]:
        """(N, h, w) over the image alone, without what is grey beside it."""
        logits = mask_logits(maps.coefficients[0].flatten(0, 1)[places], maps.prototypes[0])
        width, height = scaled_size(image.size, SIDE)
        return logits[:, : max(1, round(height / 4)), : max(1, round(width / 4))].numpy().astype(np.float16)

    def _photographed(self, image: FinderInput, placed: Sequence[PlacedWord]) -> _Found:
        pixels = image.more[0].transpose(2, 0, 1)
        scores, boxes = self._evidence.detector.look(pixels)
        boxes = on_image(boxes, image, self.spec.larger_side(image.size))
        sure = scores.max(axis=1)
        likely = np.flatnonzero(sure > _LEAST_PHOTOGRAPHED)
        order = likely[np.argsort(-sure[likely], kind="stable")][:_PLACES]
        kept = order[suppress(boxes[order], sure[order], _SAME)[:_MOST]]
        names = _columns([self._of_photograph(word, scores[kept]) for word in placed], len(kept))
        return _Found(boxes[kept], sure[kept], names)

    def _of_photograph(self, word: PlacedWord, scores: Floats) -> Floats:
        """The best score of COCO's names that the word names; NaN where it is none of them."""
        weights = self._placement.weights_of_coco(word)
        if word.via == "none" or weights.max(initial=0.0) < _KNOWN:
            return np.full(len(scores), np.nan, dtype=np.float32)
        return np.asarray((scores * weights).max(axis=1), dtype=np.float32)


def on_image(boxes: Floats, image: FinderInput, side: int) -> Floats:
    """Boxes in pixels of the image scaled to this longest side -> clipped, in pixels of the upright image."""
    width, height = scaled_size(image.size, side)
    scale = np.array([image.size[0] / width, image.size[1] / height] * 2, dtype=np.float32)
    return np.asarray(np.clip(boxes, 0, np.array([width, height] * 2, np.float32)) * scale, dtype=np.float32)


def _columns(columns: Sequence[Floats], count: int) -> Floats:
    return np.stack(columns, axis=1) if columns else np.empty((count, 0), dtype=np.float32)


def _presence(scores: Floats) -> Floats:
    """(T,) the highest score of each text, NaN where one is not known."""
    if not len(scores):
        return np.zeros(scores.shape[1], dtype=np.float32)
    return np.asarray(scores.max(axis=0), dtype=np.float32)


def _masks_of(parts: Sequence[tuple[float, _Found]], kept: NDArray[np.int64]) -> NDArray[np.float16] | None:
    """The masks of the candidates; None unless all of them come from who makes masks."""
    if len(parts) > 1 or parts[0][1].masks is None:
        return None
    return parts[0][1].masks[kept]
