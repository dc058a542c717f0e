"""What a running service does not need: data, drawn scenes, training, evaluation, profiling. It imports the model."""
