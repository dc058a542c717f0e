"""OWLv2: one box per patch, an embedding per box, and names as dot products with it; one pass, however many names.

Shapes: P = patches, T = texts, N = candidates, E = width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.errors import OutputError, raise_if_stopped
from dynrefer.model.find_names import texts_of
from dynrefer.model.finding import Candidates, FinderInput
from dynrefer.model.networks.finder.released import (
    ReleasedFiles,
    best_candidates,
    load_network,
    load_tokenizer,
    upright_boxes,
)
from dynrefer.model.networks.finder.released_preparation import ReleasedFinderSpec
from dynrefer.model.networks.finder.spans import tokens_of

MODEL_TYPE = "owlv2"
_LEAST = 0.05  # score of a candidate
_REMEMBERED = 4096  # embeddings of texts


class Owlv2Finder:
    """A `Finder`. network: `Owlv2ForObjectDetection`."""

    def __init__(self, network: Any, tokenizer: Any, files: ReleasedFiles) -> None:
        self._network, self._tokenizer, self._files = network, tokenizer, files
        side = int(network.config.vision_config.image_size)
        self.spec = ReleasedFinderSpec(side, side, square=True)
        self._longest = int(network.config.text_config.max_position_embeddings)
        self._known: dict[str, Tensor] = {}

    @classmethod
    def load(cls, files: ReleasedFiles, device: torch.device, dtype: torch.dtype) -> Owlv2Finder:
        """Raises `ConfigError`, `WeightsError`, `DeviceMemoryError`."""
        from transformers import Owlv2ForObjectDetection

        return cls(load_network(files, Owlv2ForObjectDetection, device, dtype), load_tokenizer(files), files)

    @torch.inference_mode()
    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> list[Candidates]:
        """See `Finder`. Raises `FinderError` for a name of too many tokens."""
        found = []
        for image in images:
            raise_if_stopped(should_stop)
            found.append(self._search(image))
        return found

    def _search(self, image: FinderInput) -> Candidates:
        texts = texts_of(image.query)
        pixels = self._files.pixels(image, self._network.device, self._network.dtype)
        features, _ = self._network.image_embedder(pixel_values=pixels)  # (1, h, w, E)
        patches = features.flatten(1, 2)
        boxes = self._network.box_predictor(patches, features)[0].float().cpu().numpy()
        objectness = self._network.objectness_predictor(patches)[0].float().sigmoid().cpu().numpy()
        scores = np.zeros((len(boxes), 0), np.float32)
        if texts:
            embeddings = torch.stack([self._embedding(text, place) for place, text in enumerate(texts)])
            logits, _ = self._network.class_predictor(patches, embeddings[None])
            scores = logits[0].float().sigmoid().cpu().numpy()
        if not (np.isfinite(boxes).all() and np.isfinite(objectness).all() and np.isfinite(scores).all()):
            raise OutputError("the finder returned NaN or infinity for this image.")
        # The network's unit is the square that the image lies on.
        width, height = self.spec.scaled(image.size)
        boxes = boxes * np.array([self.spec.longest / width, self.spec.longest / height] * 2, np.float32)
        corners = upright_boxes(boxes, image.size)
        kept = self._kept(corners, objectness, scores)
        presence = scores.max(axis=0) if len(scores) else np.zeros(len(texts), np.float32)
        return Candidates(corners[kept], objectness[kept], texts, scores[kept], presence)

    def _kept(self, corners: Any, objectness: Any, scores: Any) -> Any:
        """The candidates: the best of each text by itself, so that no text takes another's place; best first."""
        columns = scores.T if scores.shape[1] else objectness[None]
        parts = [best_candidates(corners, np.ascontiguousarray(column), _LEAST) for column in columns]
        every = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
        return every[np.argsort(-objectness[every], kind="stable")]

    def _embedding(self, text: str, place: int) -> Tensor:
        """(E,) of one text, computed by itself, so that it does not depend on others."""
        found = self._known.get(text)
        if found is None:
            tokens = tokens_of(self._tokenizer, text.lower(), (), self._longest, f"names/{place}").ids
            ids = torch.tensor([tokens], device=self._network.device)
            output = self._network.owlv2.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids))
            pooled = output if isinstance(output, Tensor) else output.pooler_output
            found = pooled[0] / pooled[0].norm()
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[text] = found
        return found
