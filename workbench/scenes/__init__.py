"""The drawn world: its vocabulary, its artwork, and synthetic scenes with complete ground truth."""
