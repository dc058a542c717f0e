"""More than one process: model replicas on many GPUs and machines, and what processes share."""
