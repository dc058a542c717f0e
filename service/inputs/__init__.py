"""From the bytes of a request to checked fields and an upright RGB image."""
