"""The network: vision, region representation, decoders, language model, and their assembly."""
