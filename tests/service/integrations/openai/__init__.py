"""Chat completions: of the fake predictor, and asked for by OpenAI's own client."""
