"""Everything of Ray; only the extra `ray` installs it, so `import ray` stands inside functions."""
