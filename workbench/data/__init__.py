"""Annotation files, captions and regions of images, read once for training, evaluation and whatever else needs them."""
