"""What the model costs: counts of operations and bytes, the floor that follows from them, and measured seconds."""
