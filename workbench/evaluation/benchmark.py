"""Names of the benchmarks on labelled data, in a file of their own so that the command line imports nothing else."""

from enum import StrEnum


class Benchmark(StrEnum):
    """What `dynrefer evaluate --task` measures."""

    CAPTIONS = "captions"
    DENSE_CAPTIONS = "dense-captions"
    ATTRIBUTES = "attributes"
    RECOGNITION = "recognition"
