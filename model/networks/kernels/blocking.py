"""How much goes through a layer at a time. Sizes chosen by measurement.

On a CPU, activations between two products then stay in the cache, and in memory that the allocator reuses instead of
requesting fresh pages from the system. A GPU wants few large products.

Shapes: N = views, S = side of a view in pixels, R = regions, T = texts.
"""

import torch
from torch import Tensor

VIEW_PIXELS_CPU = 8 * 224 * 224  # through the vision tower
REGIONS_CPU = 2  # aligned and fused
DECODER_ROWS_CPU, DECODER_ROWS_GPU = 1 << 10, 1 << 18  # texts x regions through a layer of a recognition decoder


def view_parts(images: Tensor) -> tuple[Tensor, ...]:
    """Views (N, 3, S, S), N >= 1, in the parts that are encoded together; on a CPU of two or more where N >= 2.

    Hence at least three at a time: of two at a time an odd number of views would leave one alone.
    """
    if images.device.type != "cpu":
        return (images,)
    size = max(3, VIEW_PIXELS_CPU // images.shape[-1] ** 2)
    return images.tensor_split(-(-len(images) // size))


def regions_per_part(device: torch.device, regions: int) -> int:
    """How many of R regions are aligned and fused together."""
    return REGIONS_CPU if device.type == "cpu" else max(1, regions)


def decoder_rows(device: torch.device) -> int:
    """Rows (texts x regions) that go through a layer of a recognition decoder together."""
    return DECODER_ROWS_CPU if device.type == "cpu" else DECODER_ROWS_GPU
