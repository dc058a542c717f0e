"""Hugging Face's payloads: what is read and written, and against `huggingface_hub` itself."""
