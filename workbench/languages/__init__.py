"""Makes the translations of the embedded model's words."""
