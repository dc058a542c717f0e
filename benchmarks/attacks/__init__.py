"""Attacks on a real service process, each with the bound that it must keep: `python -m benchmarks.attacks [NAME...]`.

`served` starts, asks and measures a service; `images` makes the hostile files; every other file holds the attacks on
one part of the service, as functions that yield findings.
"""
