"""Values that lie where others write too: each with a tag that shows damage, and forgery where there is a secret.

A tag is an HMAC-SHA256 over key and value, so that a value does not pass under another key. Without a secret anybody
can make one, and it shows damage alone.
"""

import hashlib
import hmac
from pathlib import Path

TAG_BYTES = 32
LEAST_SECRET_BYTES = 16


class Seal:
    """secret: what whoever may change answers knows; empty: nothing."""

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret
        # Processes with different secrets keep out of each other's way; it tells nothing of the secret.
        self.name = b":" + hmac.digest(secret, b"name", "sha256")[:4].hex().encode() if secret else b""

    def closed(self, key: bytes, value: bytes) -> bytes:
        """The value behind its tag."""
        return self._tag(key, value) + value

    def opened(self, key: bytes, sealed: bytes) -> bytes | None:
        """The value, or None where the tag is not that of key and value."""
        tag, value = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
        return value if hmac.compare_digest(tag, self._tag(key, value)) else None

    def _tag(self, key: bytes, value: bytes) -> bytes:
        made = hmac.new(self._secret, len(key).to_bytes(4, "big") + key, hashlib.sha256)
        made.update(value)
        return made.digest()


def read_secret(path: Path) -> bytes:
    """The secret of a file, without white space around it. Raises ValueError, as a sentence, if there is none."""
    try:
        secret = path.read_bytes().strip()
    except OSError:
        raise ValueError("cannot be read.") from None
    if len(secret) < LEAST_SECRET_BYTES:
        raise ValueError(f"holds fewer than {LEAST_SECRET_BYTES} bytes; `openssl rand -hex 32` makes a secret for it.")
    return secret
