"""The network as inference calls it: on a GPU its parts are replayed as CUDA graphs where a batch is small.

A part launches hundreds of kernels, each of which costs the host some 8 microseconds: for a few regions that is longer
than the device computes. From about 24 views on, the products are so large that the device gains nothing from a graph.
The host does: while newcomers join, it has the decoder's steps to launch meanwhile.

Shapes: N = views, R = regions, V = views of a region, Q = region tokens, C = channels, S = side of a view in pixels,
T = tags, P = prompts, A = attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.decoders import PreparedTexts, RecognitionDecoder, synonym_maximum
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from dynrefer.model.networks.kernels.blocking import decoder_rows
from dynrefer.model.networks.kernels.bucketed_graph import BucketedGraph, StreamOrder
from dynrefer.model.networks.kernels.graphs import Graphs
from dynrefer.model.networks.kernels.transfers import upload
from dynrefer.model.vocabulary import TextEmbeddings

VIEWS = (1, 2, 3, 6, 9, 12, 18, 24)  # on an H100 a view more takes 1 ms, and the launches of any number 10 ms
REGIONS = (1, 2, 4, 8)
FORMER = (16, 32, 48, 64)  # regions whose Q-Former alone is recorded: its launches take as long as 64 regions


@dataclass(frozen=True)
class PreparedVocabulary:
    """tags, attributes (by prompt), categories: ready for `RecognitionDecoder.score`. attribute_owner: (P,) int64."""

    tags: PreparedTexts
    attributes: PreparedTexts
    categories: PreparedTexts
    attribute_owner: Tensor


class Inference:
    """Parts of a network for batches of any size, without gradients. For the device's thread.

    texts: of the vocabulary, on the network's device. attribute_owner: the attribute of each of P prompts.
    Nothing here waits for a GPU, and every result is the caller's own.
    """

    def __init__(self, network: DynReferModel, texts: TextEmbeddings, attribute_owner: Sequence[int]) -> None:
        self._network, self._texts, self._owner = network, texts, tuple(attribute_owner)
        self._device = network.query_tokens.device
        vision = StreamOrder(self._device)
        self._tower = BucketedGraph("vision tower", self._encode, vision)
        self._region = BucketedGraph("region representation", self._represent, vision)
        self._former = BucketedGraph("Q-Former", self._compress, vision)
        self._tags = BucketedGraph("tag scores", self._score_tags, vision)
        self._attributes = BucketedGraph("attribute scores", self._score_attributes, vision)
        self._categories = BucketedGraph("category scores", self._score_categories, vision)

    @cached_property
    def prepared(self) -> PreparedVocabulary:
        """Parts of the decoders that depend on the vocabulary alone; computed at first use."""
        heads = self._network.region_text_decoder
        return PreparedVocabulary(
            self._network.tag_decoder.prepare(self._texts.tags),
            heads.prepare(self._texts.attributes),
            heads.prepare(self._texts.categories),
            torch.tensor(self._owner, dtype=torch.int64, device=self._device),
        )

    def encode(self, images: Tensor) -> VisionFeatures:
        """Views (N, 3, S, S) uint8, on the device or in the host's memory (pinned, not to wait for the copy)."""
        return _joined(self._tower(images.to(self._device, non_blocking=True)))

    def represent(self, features: VisionFeatures, boxes: Tensor) -> Tensor:
        """Features of R * V views, region-major, and boxes (R, V, 4), on the device -> (R, Q, C) float32."""
        if not self._region.recorded:
            return self._network.represent_in_parts(features, boxes)
        if len(boxes) > REGIONS[-1]:
            return self._former(self._network.fuse(features, boxes))[0]
        parts = [features.map] if features.cls is None else [features.map, features.cls]
        return self._region(boxes, *(each.unflatten(0, boxes.shape[:2]) for each in parts))[0]

    def score_tags(self, representation: Tensor) -> Tensor:
        """(R, Q, C) -> logits (R, T)."""
        return self._tags(representation)[0]

    def score_attributes(self, representation: Tensor) -> Tensor:
        """(R, Q, C) -> logits (R, A), of each attribute's best synonym."""
        return self._attributes(representation)[0]

    def score_attribute_prompts(self, representation: Tensor) -> Tensor:
        """(R, Q, C) -> logits (R, P), of every prompt: for explanations, and never replayed."""
        return self._network.region_text_decoder.score(representation, self.prepared.attributes)

    def score_categories(self, representation: Tensor) -> Tensor:
        """(R, Q, C) -> logits (R, number of categories)."""
        return self._categories(representation)[0]

    def prepare_texts(self, task: str, embeddings: Tensor) -> PreparedTexts:
        """Texts (T, E) of a request, on the device, in the form that `score_own_texts` takes."""
        return self._decoder(task).prepare(embeddings)

    def score_own_texts(self, task: str, representation: Tensor, prepared: Sequence[PreparedTexts]) -> Tensor:
        """(R, Q, C) and each region's texts, of a request -> logits (R, most texts); what is beyond a region's is 0.

        Never recorded, as the vocabularies of requests are many. Regions whose texts are as many are scored together.
        """
        decoder, sizes = self._decoder(task), dict[tuple[int, int], list[int]]()
        alone = decoder_rows(self._device)  # a vocabulary of more rows is scored by itself
        for row, texts in enumerate(prepared):
            count = len(texts.texts)
            sizes.setdefault((count, id(texts) if count > alone else 0), []).append(row)
        logits = representation.new_zeros(len(prepared), max(count for count, _ in sizes))
        for (count, _), rows in sizes.items():
            index = upload(torch.tensor(rows), self._device)
            some, first = representation[index], prepared[rows[0]]
            if all(prepared[row] is first for row in rows):
                found = decoder.score(some, first)
            else:
                found = decoder.score_each(some, [prepared[row] for row in rows])
            logits[index, :count] = found.to(logits.dtype)
        return logits

    def _decoder(self, task: str) -> RecognitionDecoder:
        network = self._network
        return network.tag_decoder if task == "tags" else network.region_text_decoder

    @torch.inference_mode()
    def capture(self, graphs: Graphs) -> None:
        """Record small batches of every part. graphs: of these parts alone, which run beside a decoder's steps.

        Afterwards the weights must stay where they are in memory. Together the parts are recorded in 28 graphs.
        """
        config = self._network.config
        views, size = config.num_views, config.view_size
        images = torch.arange(views * 3 * size * size, device=self._device).remainder(251).to(torch.uint8)
        images = images.view(views, 3, size, size)
        self._tower.capture(graphs, [images], VIEWS)
        features = self._encode(images)
        low = torch.arange(views * 2, device=self._device, dtype=torch.float32).view(1, views, 2)
        boxes = torch.cat((low, low + size / 2), dim=2)
        self._region.capture(graphs, [boxes, *(each[None] for each in features)], REGIONS)
        representation = self._represent(boxes, *(each[None] for each in features))[0]
        for scores in (self._tags, self._attributes, self._categories):
            scores.capture(graphs, [representation], REGIONS)
        self._former.capture(graphs, [self._network.fuse(_joined(features), boxes)], FORMER)

    def _encode(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self._network.encode_in_parts(images)
        return (features.map,) if features.cls is None else (features.map, features.cls)

    def _represent(self, boxes: Tensor, *features: Tensor) -> tuple[Tensor]:
        """features: (R, V, ...) each."""
        joined = _joined([each.flatten(0, 1) for each in features])
        return (self._network.represent_in_parts(joined, boxes),)

    def _compress(self, fused: Tensor) -> tuple[Tensor]:
        return (self._network.compress(fused),)

    def _score_tags(self, representation: Tensor) -> tuple[Tensor]:
        return (self._network.tag_decoder.score(representation, self.prepared.tags),)

    def _score_attributes(self, representation: Tensor) -> tuple[Tensor]:
        prompts = self._network.region_text_decoder.score(representation, self.prepared.attributes)  # (R, P)
        return (synonym_maximum(prompts, self.prepared.attribute_owner, 1 + max(self._owner, default=-1)),)

    def _score_categories(self, representation: Tensor) -> tuple[Tensor]:
        return (self._network.region_text_decoder.score(representation, self.prepared.categories),)


def _joined(parts: Sequence[Tensor]) -> VisionFeatures:
    """A map, and class tokens where the tower has them."""
    return VisionFeatures(parts[0], parts[1] if len(parts) > 1 else None)
