"""The networks, in plain torch on classes of transformers."""
