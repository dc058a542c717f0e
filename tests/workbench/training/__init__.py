"""Training on real data."""
