"""The integrations, each against the program or client that it is for."""
