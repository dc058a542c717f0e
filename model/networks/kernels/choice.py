"""Which kernels a network computes with, by the device that it is on; chosen once, when it is loaded."""

import torch
from torch import nn

from dynrefer.model.networks.kernels.merged_products import merge_products
from dynrefer.model.networks.kernels.onednn import use_onednn
from dynrefer.model.networks.kernels.rms_norm import use_fused_norms
from dynrefer.model.networks.kernels.split_products import use_split_products


def choose_kernels(network: nn.Module, device: torch.device, cpu_kernels: str = "auto") -> None:
    """For inference: the same weights under the same names, computed with what suits their device.

    On a GPU a step of the decoder is mostly launches of small kernels, so there are fewer of them. On a CPU see
    `onednn.use_onednn`, which `cpu_kernels` is for. Raises `DeviceError` for another name of kernels.
    """
    if device.type == "cuda":
        # For the process. By default convolutions of float32 cut their operands to ten bits: a caption's score is then
        # .09 off, and depends on how many views are computed together.
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # torch does not declare it
        use_fused_norms(network)
        merge_products(network)
        if any(each.dtype == torch.bfloat16 for each in network.parameters()):
            use_split_products(network)
    use_onednn(network, cpu_kernels)
