"""What is done for the sake of CPUs, without changing what is computed.

- `blocking`: how much goes through a layer at a time, so that activations stay in the cache.
- `batch_invariance`: what keeps a region's numbers independent of the rest of its batch, and the probe of that.
- `onednn`: linear layers by oneDNN, and the processors on which they are used.
"""
