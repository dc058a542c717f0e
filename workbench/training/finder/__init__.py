"""Training of the embedded finder: images with boxes, names and masks -> its network."""
