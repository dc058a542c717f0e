"""What is done for the CPU's sake, without changing what is computed."""
