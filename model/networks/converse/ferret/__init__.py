"""Ferret-v2: a conversation about an image, whose regions are words, coordinates and a feature (arXiv 2404.07973)."""
