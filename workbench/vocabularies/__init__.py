"""Fits named vocabularies to a few labelled examples."""
