"""T5's norms in one kernel, for GPUs: transformers' own launches six.

transformers normalises in float32, rounds to the weights' dtype, and only then multiplies by the weight. The kernel's
own multiplication would round once instead of twice; with bfloat16 weights that changes captions, so it is left out.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5LayerNorm


def use_fused_norms(network: nn.Module) -> None:
    """Have every norm of a network's T5 compute by `FusedRmsNorm`; the weights stay where they are."""
    for module in network.modules():
        if type(module) is T5LayerNorm:
            module.__class__ = FusedRmsNorm


class FusedRmsNorm(T5LayerNorm):
    """x / sqrt(mean(x ** 2) + epsilon), rounded, times the weight.

    As `T5LayerNorm` to the last bit but for the order in which squares are added up.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if hidden_states.dtype != self.weight.dtype:  # then transformers promotes types, which the kernel does not
            promoted: Tensor = super().forward(hidden_states)  # type: ignore[no-untyped-call]
            return promoted
        normed: Tensor = self.weight * F.rms_norm(hidden_states, self.weight.shape, None, self.variance_epsilon)
        return normed
