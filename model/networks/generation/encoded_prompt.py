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
    encoded, bias = encode(model, embeddings, mask)
    blocks, heads, width = model.decoder.block, model.config.num_heads, model.config.d_kv
    cross = encoded.new_empty((len(blocks), 2, len(mask), heads, mask.shape[1], width))
    for block, room in zip(blocks, cross, strict=True):
        attention = block.layer[1].EncDecAttention
        both = MergedProduct(attention.k, attention.v)(encoded)  # (M, S, 2 * heads * d)
        room.copy_(both.unflatten(-1, (2, heads, width)).permute(2, 0, 3, 1, 4))
    prompt = EncodedPrompt(cross, bias)
    # What is being recorded is no work yet: whoever replays it marks what the replay makes.
    recorded = cross.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    return prompt if recorded else prompt.marked()
