"""From a language model that takes one step to sequences: beam search, greedy search, steppers."""
