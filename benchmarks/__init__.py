"""Benchmark scripts; their results are committed as JSON under results/."""
