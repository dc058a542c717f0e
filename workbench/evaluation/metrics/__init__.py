"""The metrics, each in the file that it is named after, and their standard errors."""
