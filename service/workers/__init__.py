"""Image work - decoding, view plans, crops - in processes that can be stopped. No tensors, no HTTP."""
