"""The header Retry-After, and how long to wait."""

import email.utils
import time

import pytest

from dynrefer.service.client.retries import Retries, retry_after_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 12 ", 12.0), ("", None), ("soon", None), ("-3", None), ("1.5", None)],
)
def test_seconds(text: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": text}) == seconds
    assert retry_after_s({}) is None


def test_a_date() -> None:
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    found = retry_after_s({"retry-after": in_a_minute})
    assert found is not None and 50 < found <= 60
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_a_pause_is_bounded_but_by_the_server() -> None:
    assert Retries().pause_s(10_000, None, 0.0) == 5.0
    assert Retries().pause_s(10_000, 90.0, 0.0) == 90.0
