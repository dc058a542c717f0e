"""X-AnyLabeling."""
