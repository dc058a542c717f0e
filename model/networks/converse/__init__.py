"""Conversers: what answers questions about an image and its regions."""
