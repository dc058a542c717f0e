"""Training of the small segmenter that comes with the embedded model."""
