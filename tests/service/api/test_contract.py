"""A short run of schemathesis with a fixed seed; `python -m tests.service.api.contract` is the long one."""

import re

import pytest

from tests.service.api.contract import run_schemathesis

pytestmark = pytest.mark.server


def test_the_service_keeps_its_contract() -> None:
    done = run_schemathesis(examples=10, seed=1)
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated and int(generated[1]) > 100
