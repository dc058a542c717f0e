"""The drawn world: what exists in it, its artwork, and scenes of which everything is known."""
