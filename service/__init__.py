"""Everything that knows HTTP. It sees the model through its public face only; importing it loads no torch."""

import os

# The libraries read these when they are loaded, so they are set before anything else; the person's own settings stand.
# A waiting OpenMP thread spins for some 30 microseconds, then sleeps: one that sleeps at once takes 1.6 times as long
# for the embedded model on idle cores, and one that spins for ever starves whoever shares its core.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# The hashes' many small products of numpy gain nothing from threads, which get in torch's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
