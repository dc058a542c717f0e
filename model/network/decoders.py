"""The recognition decoder: how well does each text describe a region? One for tags, one for attributes and categories.

Source: paper, section 3.3 (D_tag, D_rtc). Letters: R regions, Q region tokens, T texts, C channels, E text width.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from model.config import DynReferConfig


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


def synonym_maximum(logits: Tensor, owner: Tensor, count: int) -> Tensor:
    """Per attribute the best of its synonyms' prompts: (R, P) logits, owner (P,) int64 -> (R, count)."""
    best = logits.new_full((logits.shape[0], count), float("-inf"))
    return best.scatter_reduce(1, owner.expand_as(logits), logits, reduce="amax")
