"""How well questions about drawn scenes are answered."""
