"""Model replicas by Ray Serve. Nothing of the plain service imports this, and only this imports Ray."""
