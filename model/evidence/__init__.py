"""What the small model knows of photographs: a tower that was trained on them, names, and when to trust them."""
