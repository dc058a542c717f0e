"""The bytes that requests may hold at a time."""

import pytest

from dynrefer.service.errors import QueueFullError
from dynrefer.service.inputs.bodies import Buffer, content_length


def test_what_is_held_is_given_back() -> None:
    buffer = Buffer(100)
    with buffer.lease() as lease:
        lease.add(60)
        lease.add(0)
        with buffer.lease() as other, pytest.raises(QueueFullError):
            other.add(41)
        lease.shrink_to(10)
        lease.shrink_to(20)  # more than it holds
        assert buffer.held_bytes == 10
    assert buffer.held_bytes == 0


def test_a_key_has_its_share() -> None:
    full: list[str] = []
    buffer = Buffer(100, 60, full.append)
    with buffer.lease("one") as first, buffer.lease("one") as second, buffer.lease("two") as other:
        first.add(50)
        with pytest.raises(QueueFullError, match="one key"):
            second.add(11)
        other.add(40)
        with pytest.raises(QueueFullError, match="as it can hold"):
            other.add(11)
        first.shrink_to(0)
        second.add(60)
    assert full == ["key_buffer_share", "buffer_full"]
    assert buffer.held_bytes == 0
    with buffer.lease("one") as lease:
        lease.add(60)


def test_without_keys_there_are_no_shares() -> None:
    with Buffer(100, 60).lease() as lease:
        lease.add(100)


@pytest.mark.parametrize(
    ("header", "length"), [("", 0), ("12", 12), ("-1", 0), ("1 2", 0), ("٣", 0), ("9" * 99, 10**20 - 1)]
)
def test_content_length(header: str, length: int) -> None:
    assert content_length(header) == length
