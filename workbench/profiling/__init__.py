"""Profiling of the model: counted operations and bytes, the roofline bound they imply, and measured seconds."""
