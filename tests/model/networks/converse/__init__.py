"""Conversers."""
