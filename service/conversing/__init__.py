"""Another service that answers questions in the place of the converser, over an OpenAI-compatible interface."""
