"""`python -m tests.service.api.update_openapi` rewrites the OpenAPI snapshot; its examples stay as they
are (`update_examples.py`).
"""

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor
from tests.service.api.example_requests import ADMIN

SNAPSHOT = Path(__file__).with_name("openapi.json")


def current() -> dict[str, Any]:
    """The document that the service serves now, with the routes of administrators."""
    return create_app(Settings(admin_keys=(SecretStr(ADMIN),)), FakePredictor()).openapi()


def write_snapshot() -> None:
    """Write the document to the snapshot."""
    SNAPSHOT.write_text(json.dumps(current(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_snapshot()
