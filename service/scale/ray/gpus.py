"""GPUs: how many each replica, or worker of a batch, takes of a cluster, and whether all of them can have theirs.

Ray places a part of a GPU on one card: three replicas with 0.4 each need two cards, though 0.4 times three is 1.2.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynrefer.service.settings import Settings

LEAST = 0.0001  # the smallest part of a card that Ray counts
ROUNDING = 1e-9  # 1 / 0.1 may come out a little below 10


def flaw_of_gpus(each: float | None, device: str) -> str:
    """What is wrong with so many GPUs for each replica, whatever cluster there is; empty if nothing is.

    each: None: as many as suit the device. device: as in the settings.
    """
    if each is None:
        return ""
    if each and device.startswith("cpu"):
        return f"replica_gpus {each:g} gives GPUs that device {device} does not use; leave one of the two out"
    if not each and device.startswith("cuda"):
        return f"replica_gpus 0 gives replicas no GPU, and device {device} is one; write 1, or a part such as 0.5"
    if 0 < each < LEAST:
        return f"replica_gpus {each:g} is too small a part of a GPU: the smallest is {LEAST:g}"
    if each > 1 and each != int(each):
        return f"replica_gpus {each:g} cannot be had: a replica takes whole GPUs, or a part of one such as 0.5"
    return ""


def gpus_of_each(settings: "Settings", of_cluster: float | None = None) -> float:
    """How many each replica takes: as the settings say, else one where the cluster has any and the device is no CPU.

    of_cluster: None: those of the cluster that this process is connected to; asked only where it matters.
    """
    if settings.replica_gpus is not None:
        return settings.replica_gpus
    if settings.device.startswith("cpu"):
        return 0.0
    return 1.0 if (gpus_of_cluster() if of_cluster is None else of_cluster) >= 1 else 0.0


def fitting(cards: int, each: float) -> int:
    """How many replicas with so many GPUs each have theirs of so many cards. each: not 0."""
    return cards * math.floor(1 / each + ROUNDING) if each < 1 else cards // int(each)


def lack_of_gpus(settings: "Settings", of_cluster: float) -> str:
    """Why the cluster cannot have all replicas of the settings at a time, and what to do; empty if it can.

    Where their number follows the load, it may be its most.
    """
    cards = math.floor(of_cluster)
    have = f"the Ray cluster has {cards or 'none'}"
    another = "" if settings.ray_address else ", or join a cluster that has more by ray_address"
    if settings.replica_gpus is None and settings.device.startswith("cuda") and not cards:
        return f"device {settings.device} needs a GPU, and {have}; use device cpu{another}"
    each = gpus_of_each(settings, of_cluster)
    name, most = ("max_replicas", settings.max_replicas) if settings.max_replicas else ("replicas", settings.replicas)
    if not each or (fit := fitting(cards, each)) >= most:
        return ""
    fewer = f"lower {name} to {fit}" if fit else "use fewer for each, or device cpu"
    return f"{name} {most} with replica_gpus {each:g} need more GPUs than there are: {have}; {fewer}{another}"


def gpus_of_cluster() -> float:
    """Of the one that this process is connected to."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return resources.get("GPU", 0.0)
