"""Grounding: which regions the noun phrases of a sentence speak of."""
