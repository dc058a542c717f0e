"""Provenance and timing, shared with `dynrefer bench`."""

from dynrefer.workbench.profiling.machine import ROOT, gemm_gflops, median_seconds, provenance

__all__ = ["ROOT", "gemm_gflops", "median_seconds", "provenance"]
