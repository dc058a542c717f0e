"""Drawings: regions on their image with what is said of them, and the views that were chosen for a region. No torch."""

from dynrefer.model.drawing.annotations import Annotation, annotation_of, annotation_of_found, annotations_of_reply
from dynrefer.model.drawing.regions import draw_regions, draw_shape
from dynrefer.model.drawing.views import draw_candidates, draw_views

__all__ = [
    "Annotation",
    "annotation_of",
    "annotation_of_found",
    "annotations_of_reply",
    "draw_candidates",
    "draw_regions",
    "draw_shape",
    "draw_views",
]
