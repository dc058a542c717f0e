"""Annotation files, captions and regions of images, read by one reader for training and evaluation; atomic writing."""
