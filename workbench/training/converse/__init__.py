"""Trains the embedded converser on questions about drawn scenes, by one command that can be stopped at any time."""
