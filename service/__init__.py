"""Everything that knows HTTP. It sees the model through its public face only; importing it loads no torch."""
