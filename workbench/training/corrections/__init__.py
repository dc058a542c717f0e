"""Training from corrections: heads or language model tuned, calibrated again, compared; never switched by itself."""
