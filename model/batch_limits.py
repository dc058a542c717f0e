"""How large a batch fits a GPU: by what one batch takes of the memory that the loaded model leaves."""

from collections.abc import Callable

from dynrefer.model.device_memory import DeviceMemory
from dynrefer.model.protocol import BatchLimits

MOST_REGIONS = 64  # beyond it throughput on an H100 does not grow: the products are large enough
SHARE = 0.6  # of the free memory; the rest is for fragments, other sizes of images, and what else runs on the device


def measured_limits(memory: DeviceMemory, work: Callable[[], object], regions: int, num_views: int) -> BatchLimits:
    """Limits from a batch of so many regions, `work`, each with so many views.

    A power of two, since batches of that size are split in halves where they do not fit after all.
    """
    each = max(1, memory.taken_by(work) // regions)
    most = max(1, min(MOST_REGIONS, int(SHARE * memory.free()) // each))
    fitting = 1 << (most.bit_length() - 1)
    return BatchLimits(fitting, fitting * num_views)
