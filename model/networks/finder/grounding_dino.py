"""Grounding DINO, MM-Grounding-DINO and LLMDet, which has its classes: finders that see image and words together.

Such a model's boxes for a name change with the words beside it. So each name, with its synonyms, is a text of its own,
and so is each word that is not meant: texts of equally many tokens share a batch, without padding, and a name's boxes
and scores are the same whatever else is asked. The image's backbone runs once for all of them, the fused rest once per
name. A sentence is one text, each of whose noun phrases has the best score of its own tokens.

Shapes: Q = queries of the network (900 in released ones), L = tokens, N = candidates, T = texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynrefer.model.errors import OutputError, raise_if_stopped
from dynrefer.model.find_names import texts_of
from dynrefer.model.finding import Candidates, FinderInput, FindQuery, NounPhrase
from dynrefer.model.grounding.sentence import noun_phrases
from dynrefer.model.networks.finder.released import (
    MOST,
    ReleasedFiles,
    best_candidates,
    load_network,
    load_tokenizer,
    upright_boxes,
)
from dynrefer.model.networks.finder.released_preparation import ReleasedFinderSpec
from dynrefer.model.networks.finder.spans import TokenText, joined, tokens_of

Floats = NDArray[np.float32]

MODEL_TYPES = ("grounding-dino", "mm-grounding-dino")
_TOGETHER = 8  # texts of one forward pass
_LEAST = 0.05  # score of a candidate
_ANYTHING = "object"  # is looked for where nothing is asked for


@dataclass(frozen=True, slots=True)
class _Text:
    """A text of its own: which columns of the answer its spans are, and its tokens."""

    columns: tuple[int, ...]
    tokens: TokenText


class _OnceBackbone(nn.Module):
    """The backbone, run on the first of a batch's images, which are all the same, and once until `forget`."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.position_embedding = backbone.position_embedding
        self._found: Any = None

    def forget(self) -> None:
        """Another image comes."""
        self._found = None

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Any:
        """As the backbone's: a list of (map, mask), and position embeddings."""
        count = len(pixel_values)
        if self._found is None:
            self._found = self.backbone(pixel_values[:1], pixel_mask[:1])
        features, positions = self._found
        repeated = [(_repeated(values, count), _repeated(mask, count)) for values, mask in features]
        return repeated, [_repeated(each, count) for each in positions]


class GroundingDinoFinder:
    """A `Finder`. network: of a class of transformers. tokenizer: with offsets."""

    def __init__(self, network: Any, tokenizer: Any, files: ReleasedFiles) -> None:
        self._network, self._tokenizer, self._files = network, tokenizer, files
        self._backbone = network.model.backbone = _OnceBackbone(network.model.backbone)
        size = files.size
        self.spec = ReleasedFinderSpec(int(size.get("shortest_edge", 800)), int(size.get("longest_edge", 1333)))
        self._longest = int(min(network.config.max_text_len, network.config.text_config.max_position_embeddings))

    @classmethod
    def load(cls, files: ReleasedFiles, device: torch.device, dtype: torch.dtype) -> GroundingDinoFinder:
        """Raises `ConfigError`, `WeightsError`, `DeviceMemoryError`."""
        from transformers import GroundingDinoForObjectDetection, MMGroundingDinoForObjectDetection

        kinds = dict(
            zip(MODEL_TYPES, (GroundingDinoForObjectDetection, MMGroundingDinoForObjectDetection), strict=True)
        )
        return cls(load_network(files, kinds[files.config["model_type"]], device, dtype), load_tokenizer(files), files)

    @torch.inference_mode()
    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> list[Candidates]:
        """See `Finder`. Raises `FinderError` for a name or sentence of too many tokens."""
        found = []
        for image in images:
            self._backbone.forget()
            found.append(self._search(image, should_stop))
        self._backbone.forget()
        return found

    def _search(self, image: FinderInput, should_stop: Callable[[], bool]) -> Candidates:
        phrases = () if image.query.phrase is None else noun_phrases(image.query.phrase)
        texts, listed = self._texts(image.query, phrases)
        pixels = self._files.pixels(image, self._network.device, self._network.dtype)
        boxes: list[Floats] = []
        scores: list[Floats] = []
        sure: list[Floats] = []
        for group in _of_equal_length(listed):
            raise_if_stopped(should_stop)
            for text, (found, probabilities) in zip(group, self._forward(pixels, group), strict=True):
                own = np.stack([probabilities[:, list(places)].max(axis=1) for places in text.tokens.spans], axis=1)
                best = own.max(axis=1)
                corners = upright_boxes(found, image.size)
                kept = best_candidates(corners, best, _LEAST)
                row = np.zeros((len(kept), len(texts)), np.float32)
                if texts:
                    row[:, list(text.columns)] = own[kept]
                boxes.append(corners[kept])
                scores.append(row)
                sure.append(best[kept])
        return _joined(boxes, scores, sure, texts, phrases)

    def _texts(self, query: FindQuery, phrases: Sequence[NounPhrase]) -> tuple[tuple[str, ...], list[_Text]]:
        """The columns of the answer, and the texts that they come from."""
        if query.phrase is not None:
            # Character by character, so that the phrases stay where they are.
            sentence = "".join(each.lower() if len(each.lower()) == 1 else each for each in query.phrase)
            text = sentence if sentence.rstrip().endswith(".") else sentence + "."
            spans = [each.span for each in phrases] or [(0, len(sentence))]
            tokens = tokens_of(self._tokenizer, text, spans, self._longest, "phrase")
            columns = tuple(range(len(phrases)))
            return tuple(each.text for each in phrases), [_Text(columns, tokens)] if phrases else []
        texts = texts_of(query)
        if not texts:
            return (), [_Text((), self._words([_ANYTHING], "names"))]
        listed = []
        for place, name in enumerate(query.names):
            words = (name.name, *name.synonyms)
            listed.append(_Text(tuple(map(texts.index, words)), self._words(words, f"names/{place}")))
        meant = {index for each in listed for index in each.columns}
        for index, word in enumerate(texts):
            if index not in meant:
                listed.append(_Text((index,), self._words([word], "names")))
        return texts, listed

    def _words(self, words: Sequence[str], field: str) -> TokenText:
        text, spans = joined(words)
        return tokens_of(self._tokenizer, text, spans, self._longest, field)

    def _forward(self, pixels: Tensor, texts: Sequence[_Text]) -> list[tuple[Floats, Floats]]:
        """Boxes (Q, 4) cx, cy, w, h in 0..1 and probabilities of tokens (Q, L), of each text. Raises `OutputError`."""
        ids = torch.tensor([text.tokens.ids for text in texts], device=pixels.device)
        output = self._network(
            pixel_values=pixels.expand(len(texts), -1, -1, -1),
            pixel_mask=torch.ones(len(texts), *pixels.shape[2:], dtype=torch.int64, device=pixels.device),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
        )
        probabilities = output.logits[..., : ids.shape[1]].float().sigmoid()
        boxes = output.pred_boxes.float()
        if not (boxes.isfinite().all() and probabilities.isfinite().all()):
            raise OutputError("the finder returned NaN or infinity for this image.")
        return list(zip(boxes.cpu().numpy(), probabilities.cpu().numpy(), strict=True))


def _joined(
    boxes: Sequence[Floats],
    scores: Sequence[Floats],
    sure: Sequence[Floats],
    texts: tuple[str, ...],
    phrases: tuple[NounPhrase, ...],
) -> Candidates:
    """The candidates of all texts, best first."""
    every = np.concatenate(boxes) if boxes else np.empty((0, 4), np.float32)
    table = np.concatenate(scores) if scores else np.empty((0, len(texts)), np.float32)
    best = np.concatenate(sure) if sure else np.empty(0, np.float32)
    order = np.argsort(-best, kind="stable")[: MOST * max(1, len(boxes))]
    presence = table.max(axis=0) if len(table) else np.zeros(len(texts), np.float32)
    return Candidates(every[order], best[order], texts, table[order], presence, phrases)


def _of_equal_length(texts: Sequence[_Text]) -> list[list[_Text]]:
    """Groups of texts that need no padding."""
    by_length: dict[int, list[_Text]] = {}
    for text in texts:
        by_length.setdefault(len(text.tokens.ids), []).append(text)
    return [
        group[start : start + _TOGETHER] for group in by_length.values() for start in range(0, len(group), _TOGETHER)
    ]


def _repeated(values: Tensor, count: int) -> Tensor:
    return values.expand(count, *values.shape[1:])
