"""The machine and the code that a figure belongs to: as `dynrefer bench` has it."""

from dynrefer.workbench.profiling.machine import ROOT, gemm_gflops, median_seconds, provenance

__all__ = ["ROOT", "gemm_gflops", "median_seconds", "provenance"]
