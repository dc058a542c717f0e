"""The recipe of the embedded model: batches of drawn scenes, two kinds of training, and the run in stages."""
