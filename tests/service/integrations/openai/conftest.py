"""Shared by the tests of chat completions."""

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import ApiFactory


@pytest.fixture
def client(make_api: ApiFactory) -> TestClient:
    """Of a service with the integration."""
    return make_api(integrations="openai").client
