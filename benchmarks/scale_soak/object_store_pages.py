"""`python -m benchmarks.scale_soak.object_store_pages`: what `ray.put` alone does to a process's memory.

Objects as large as the views of eight regions are put one after the other, each dropped before the next, with nothing
else in the process. Its own heap stays as it is; its shared memory grows to what the object store may take, for the
store hands out its pages in turn and a process keeps those mapped that it has written once.
"""

import json
import os

from benchmarks.scale_out.processes import heap_and_shared
from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster

OBJECT_BYTES = 3_400_000
STORE_BYTES = 200_000_000
PUTS = 400
SEEN_AT = (1, 10, 50, 100, 200, PUTS)


def main() -> None:
    """Print a line of JSON for each moment."""
    with cluster(ClusterSettings(cpus=1, gpus=0, object_store_bytes=STORE_BYTES)):
        import ray

        for number in range(1, PUTS + 1):
            reference = ray.put(bytes(OBJECT_BYTES))
            del reference
            if number in SEEN_AT:
                heap, shared = heap_and_shared(os.getpid())
                print(json.dumps({"puts": number, "heap_mb": round(heap / 1e6), "shared_mb": round(shared / 1e6)}))


if __name__ == "__main__":
    main()
