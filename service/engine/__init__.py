"""Admission, image work, batching and the device thread: it knows neither HTTP nor torch."""
