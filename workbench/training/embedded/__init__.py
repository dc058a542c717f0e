"""Training of the embedded model: the drawn world, its scenes, the losses and the run."""
