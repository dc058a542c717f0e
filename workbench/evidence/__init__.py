"""The commands that make the evidence's data: the tower, its names, what they were calibrated on."""
