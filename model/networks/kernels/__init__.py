"""How things are computed for the sake of a device, without changing what is computed.

- `choice`: which of the following a network uses on its device.
- `blocking`: how much goes through a layer at a time, so that activations stay in a CPU's cache.
- `batch_invariance`: what keeps a region's numbers independent of the rest of its batch, and the probe of that.
- `onednn`: linear layers by oneDNN, and the processors on which they are used.
- `rms_norm`, `merged_products`: fewer launches on a GPU.
- `graphs`: work that is recorded once and replayed.
"""
