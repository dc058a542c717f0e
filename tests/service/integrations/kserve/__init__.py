"""KServe v2: what is read and written, and against Triton's client."""
