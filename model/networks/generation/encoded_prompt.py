"""What a decoder needs to know of its prompts: computed once per region, taken by `DecodingSlots.insert`.

Shapes: M = regions of these prompts, S = encoder tokens, D = model width, d = channels of a head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.generation.t5_stepper import encode
from dynrefer.model.networks.kernels.merged_products import MergedProduct


@dataclass(frozen=True)
class EncodedPrompt:
    """cross: (layers, 2, M, heads, S, d), keys and values of every layer of the decoder. bias: (M, 1, 1, S), 0 or -inf.

    ready: reached on a GPU when both are computed; None on a CPU.
    """

    cross: Tensor
    bias: Tensor
    ready: torch.cuda.Event | None = None

    def __len__(self) -> int:
        return len(self.bias)

    def __getitem__(self, rows: slice) -> "EncodedPrompt":
        """Some of the regions; the memory is shared."""
        return EncodedPrompt(self.cross[:, :, rows], self.bias[rows], self.ready)

    def marked(self) -> "EncodedPrompt":
        """Ready with the work that was launched so far on the current stream."""
        if self.cross.device.type != "cuda":
            return self
        ready = torch.cuda.Event()
        ready.record()
        return EncodedPrompt(self.cross, self.bias, ready)

    def wait(self) -> None:
        """Let the current stream wait for another one that computes this; the host does not."""
        if self.ready is not None:
            stream = torch.cuda.current_stream(self.cross.device)
            stream.wait_event(self.ready)
            for each in (self.cross, self.bias):
                each.record_stream(stream)  # else their memory would be reused once the other stream is through


@torch.inference_mode()
def encode_prompt(model: Any, embeddings: Tensor, mask: Tensor) -> EncodedPrompt:
    """Run a T5's encoder. embeddings: (M, S, D). mask: (M, S), 1 where the encoder may look.

    On a GPU it may run on another stream than the decoder's steps; nothing waits for the device.
    """
    cross = embeddings.new_empty(cross_shape(model, *mask.shape))
    return EncodedPrompt(cross, encode_into(model, embeddings, mask, cross)).marked()


def cross_shape(model: Any, regions: int, length: int) -> tuple[int, ...]:
    """Of `EncodedPrompt.cross`: so many regions, so many encoder tokens."""
    return len(model.decoder.block), 2, regions, model.config.num_heads, length, model.config.d_kv


def encode_into(model: Any, embeddings: Tensor, mask: Tensor, cross: Tensor) -> Tensor:
    """As `encode_prompt`, into `cross` as it stands there. Returns the bias (M, 1, 1, S)."""
    encoded, bias = encode(model, embeddings, mask)
    heads, width = cross.shape[3], cross.shape[5]
    for block, room in zip(model.decoder.block, cross, strict=True):
        attention = block.layer[1].EncDecAttention
        both = MergedProduct(attention.k, attention.v)(encoded)  # (M, S, 2 * heads * d)
        room.copy_(both.unflatten(-1, (2, heads, width)).permute(2, 0, 3, 1, 4))
    return bias
