"""The recognition decoder: how well does each text describe a region? One for tags, one for attributes and categories.

There are two paths to the same logits: `forward`, the reference path as in the paper, with gradients; and `prepare` +
`score`, the optimised path for inference, where everything that depends on the texts alone is computed once.

Source: paper, section 3.3 (D_tag, D_rtc). Shapes: R = regions, Q = region tokens, T = texts, C = channels,
E = text width, d = channels of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.kernels.batch_invariance import dot_products
from dynrefer.model.networks.kernels.blocking import decoder_rows
from dynrefer.model.networks.kernels.onednn import linear


@dataclass(frozen=True)
class PreparedTexts:
    """The part of a decoder that depends on the texts alone.

    texts: (T, C), projected. queries: (heads, T, d) of the first layer, divided by sqrt(d).
    """

    texts: Tensor
    queries: Tensor

    @property
    def nbytes(self) -> int:
        """What it takes on the device."""
        return self.texts.nbytes + self.queries.nbytes


@dataclass(frozen=True)
class RegionSide:
    """The part of a layer that depends on the regions alone.

    keys: (R, heads, d, Q), or (R, C, heads * Q) with `bias` (R, 1, heads * Q) where the query projection is folded
    in. values: (R, heads * Q, C), the output projection folded in.
    """

    keys: Tensor
    bias: Tensor | None
    values: Tensor


class TextRegionLayer(nn.Module):
    """Cross-attention from texts to region tokens, then a feed-forward part; each with add & norm (post-norm)."""

    def __init__(self, width: int, heads: int, intermediate: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.expand = nn.Linear(width, intermediate)
        self.contract = nn.Linear(intermediate, width)
        self.output_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, texts: Tensor, region: Tensor) -> Tensor:
        """texts: (R or 1, T, C), region: (R, Q, C) -> (R, T, C). Texts do not see each other."""
        dropout = self.dropout if self.training else 0.0
        query = self.query(texts).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (R or 1, heads, T, C/heads)
        key = self.key(region).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        value = self.value(region).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query = query.expand(region.shape[0], -1, -1, -1)
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        attended = self.attention_output(attended.transpose(1, 2).flatten(2))
        hidden = self.attention_norm(F.dropout(attended, dropout) + texts)
        forward = self.contract(F.gelu(self.expand(hidden)))
        output: Tensor = self.output_norm(F.dropout(forward, dropout) + hidden)
        return output

    def queries(self, texts: Tensor) -> Tensor:
        """(T, C) -> (heads, T, d), divided by sqrt(d)."""
        query: Tensor = self.query(texts).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        return query.mul(query.shape[-1] ** -0.5)

    def region_side(self, region: Tensor, *, folded: bool) -> RegionSide:
        """Keys and values of regions (R, Q, C), the projections around them folded in.

        folded: with the query projection too, so that at the released sizes a text's scores are one product of 128
        columns instead of 256 and 32 per head. The first layer's queries are in `PreparedTexts`: it needs none.
        """
        key = self.key(region).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1).contiguous()  # (R, heads, d, Q)
        value = self.value(region).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (R, heads, Q, d)
        output = self.attention_output.weight.unflatten(1, (self.heads, -1)).permute(1, 2, 0)  # (heads, d, C)
        # The attention weights of a head add up to 1, so every row carries its share of the output's bias.
        values = (torch.matmul(value, output) + self.attention_output.bias / self.heads).flatten(1, 2)
        if not folded:
            return RegionSide(key, None, values)
        key = key * key.shape[2] ** -0.5
        query = self.query.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)  # (heads, C, d)
        matrix = torch.matmul(query, key).transpose(1, 2).flatten(2)
        bias = torch.matmul(self.query.bias.view(self.heads, 1, -1), key).transpose(1, 2).flatten(2)
        return RegionSide(matrix, bias, values)

    def score_rows(self, texts: Tensor, scores: Tensor, values: Tensor) -> Tensor:
        """The rest of the layer after its attention scores, without gradients.

        texts: (R or 1, T, C). scores: (R, T, heads, Q). values: (R, heads * Q, C). -> (R, T, C).
        """
        weights = scores.softmax(-1).flatten(2)
        attended = torch.baddbmm(texts.expand(len(values), -1, -1), weights, values)
        hidden: Tensor = self.attention_norm(attended)
        inner = linear(linear(hidden, self.expand, gelu=True), self.contract)
        output: Tensor = self.output_norm(inner.add_(hidden))
        return output


class RecognitionDecoder(nn.Module):
    """Region tokens are keys and values, text embeddings are queries; one logit per text.

    normalised: the last hidden state is L2-normalised before the logit (attributes and categories; not tags).
    """

    def __init__(self, config: DynReferConfig, *, normalised: bool) -> None:
        super().__init__()
        width = config.decoder_width
        self.normalised = normalised
        self.region_projection = nn.Linear(config.qformer_config.hidden_size, width)
        self.text_projection = nn.Linear(config.text_config.projection_dim, width)
        self.layers = nn.ModuleList(
            TextRegionLayer(
                width,
                config.decoder_heads,
                config.decoder_intermediate,
                config.decoder_norm_eps,
                config.decoder_dropout,
            )
            for _ in range(config.decoder_layers)
        )
        self.logit = nn.Linear(width, 1)

    def forward(self, representation: Tensor, text_embeddings: Tensor) -> Tensor:
        """representation: (R, Q, C), text_embeddings: (T, E) -> logits (R, T)."""
        logits: Tensor = self.logit(self.hidden(representation, text_embeddings))
        return logits.squeeze(-1)

    def hidden(self, representation: Tensor, text_embeddings: Tensor) -> Tensor:
        """The texts' last hidden states, normalised where the decoder is: (R, T, width)."""
        dtype = self.logit.weight.dtype
        region = self.region_projection(representation.to(dtype))
        texts = self.text_projection(text_embeddings.to(dtype))[None]  # (1, T, width): the same for all regions
        for layer in self.layers:
            texts = layer(texts, region)
        return F.normalize(texts, dim=-1) if self.normalised else texts

    def prepare(self, text_embeddings: Tensor) -> PreparedTexts:
        """Texts (T, E) in the form that `score` takes; computed once per vocabulary."""
        texts: Tensor = self.text_projection(text_embeddings.to(self.logit.weight.dtype))
        return PreparedTexts(texts, self._stack[0].queries(texts).contiguous())

    def score(self, representation: Tensor, prepared: PreparedTexts) -> Tensor:
        """`forward` for inference: representation (R, Q, C) and prepared texts -> logits (R, T); no gradients.

        Works block by block, so that intermediate activations are small, with the projections that are linear in the
        region folded into its keys and values.
        """
        region: Tensor = self.region_projection(representation.to(self.logit.weight.dtype))
        logits = region.new_empty(len(region), len(prepared.texts))
        rows = decoder_rows(region.device)
        step = max(1, min(len(prepared.texts), rows))
        together = max(1, rows // step)  # several regions where the texts are few
        for first in range(0, len(region), together):
            span = slice(first, first + together)
            sides = [layer.region_side(region[span], folded=index > 0) for index, layer in enumerate(self._stack)]
            for start in range(0, len(prepared.texts), step):
                block = slice(start, start + step)
                found = self._score_block(sides, prepared.texts[None, block], prepared.queries[:, block])
                logits[span, block] = found
        return logits

    def score_each(self, representation: Tensor, prepared: Sequence[PreparedTexts]) -> Tensor:
        """`score` of regions that have texts of their own, the same number T each: -> (R, T); no gradients.

        A region's numbers are those that it has by `score`, if T is at least 16.
        """
        region: Tensor = self.region_projection(representation.to(self.logit.weight.dtype))
        count = len(prepared[0].texts)
        logits = region.new_empty(len(region), count)
        together = max(1, decoder_rows(region.device) // count)
        for first in range(0, len(region), together):
            span = slice(first, first + together)
            sides = [layer.region_side(region[span], folded=index > 0) for index, layer in enumerate(self._stack)]
            texts = torch.stack([each.texts for each in prepared[span]])
            logits[span] = self._score_block(sides, texts, torch.stack([each.queries for each in prepared[span]]))
        return logits

    def _score_block(self, sides: list[RegionSide], texts: Tensor, queries: Tensor) -> Tensor:
        """texts: (R or 1, T, C), queries: ([R,] heads, T, d) for the regions of `sides`: (R, T)."""
        heads = self._stack[0].heads
        for layer, side in zip(self._stack, sides, strict=True):
            if side.bias is None:
                scores = torch.matmul(queries, side.keys).transpose(1, 2)
            else:
                scores = torch.baddbmm(side.bias, texts, side.keys).unflatten(2, (heads, -1))
            texts = layer.score_rows(texts, scores, side.values)
        if self.normalised:
            texts = F.normalize(texts, dim=-1)
        return dot_products(texts, self.logit.weight[0]).add_(self.logit.bias)

    @property
    def _stack(self) -> list[TextRegionLayer]:
        return list(self.layers)  # type: ignore[arg-type]  # a ModuleList knows only modules


def synonym_maximum(logits: Tensor, owner: Tensor, count: int) -> Tensor:
    """Per attribute the best of its synonyms' prompts: (R, P) logits, owner (P,) int64 -> (R, count)."""
    best = logits.new_full((logits.shape[0], count), float("-inf"))
    return best.scatter_reduce(1, owner.expand_as(logits), logits, reduce="amax")
