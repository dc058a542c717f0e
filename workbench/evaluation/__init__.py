"""Measuring a model: metrics, drawn test scenes, and the choice of priors, thresholds, calibration."""
