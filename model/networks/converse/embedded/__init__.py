"""The embedded converser: objects are perceived without training, a small causal network talks about them."""
