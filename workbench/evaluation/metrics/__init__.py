"""What answers are worth: one file per metric."""
