"""`python -m tests.service.api.update_openapi` rewrites the OpenAPI snapshot."""

import json
from pathlib import Path
from typing import Any

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor

SNAPSHOT = Path(__file__).with_name("openapi.json")


def current() -> dict[str, Any]:
    """The document that the service serves now."""
    return create_app(Settings(), FakePredictor()).openapi()


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(current(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
