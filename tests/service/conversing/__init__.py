"""Another service that answers questions."""
