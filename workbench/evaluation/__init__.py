"""Evaluation of a model: metrics on drawn scenes and on labelled data, view studies, and tuning."""
