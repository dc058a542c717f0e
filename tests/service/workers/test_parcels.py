"""Messages between processes: arrays come over unharmed, and nothing else does that was not asked for."""

import os
import pickle
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dynrefer.model.errors import BoxError
from dynrefer.model.types import Task, View
from dynrefer.service.workers import parcels
from dynrefer.service.workers.parcels import ClosedError, ParcelError, Reader, pack, send

RECORDS = ("dynrefer.model.types", "dynrefer.model.errors")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def carried(pair: tuple[socket.socket, socket.socket], value: Any, modules: tuple[str, ...] | None = RECORDS) -> Any:
    """What arrives; the sender is a thread, for a socket holds little."""
    sender = threading.Thread(target=send, args=(pair[0], value))
    sender.start()
    try:
        return Reader(pair[1], modules).receive()
    finally:
        sender.join()


@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize("size", [0, 1, 1_000, parcels.INLINE_BYTES, parcels.INLINE_BYTES + 1, 3_000_001])
def test_arrays_and_records_arrive(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, files: bool, size: int
) -> None:
    """Also where the system has no memory files, as in some sandboxes: through the socket then."""
    if not files:
        monkeypatch.delattr(os, "memfd_create")
    array = np.arange(size, dtype=np.uint8)
    value = {"view": View(0.5, (1.0, 2.0, 3.0, 4.0)), "arrays": [array, np.float32([[1, 2], [3, 4]])], "n": 7}
    before = len(os.listdir("/proc/self/fd"))
    found = carried(pair, value)
    assert found["view"] == value["view"] and found["n"] == 7
    assert np.array_equal(found["arrays"][0], array) and found["arrays"][1].tolist() == [[1, 2], [3, 4]]
    del found  # the file's memory is held for as long as its arrays are
    assert len(os.listdir("/proc/self/fd")) == before


class _Got:
    """Pickles as what `getattr` gives, which is how Python up to 3.11.4 pickles a member of an enumeration."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self.arguments


def test_members_of_enumerations_arrive_as_older_pythons_send_them(pair: tuple[socket.socket, socket.socket]) -> None:
    assert carried(pair, [_Got(Task, "CAPTION"), Task.TAGS]) == [Task.CAPTION, Task.TAGS]


@pytest.mark.parametrize("arguments", [(Task, "__subclasses__"), (Task, "mro"), (View, "t"), (Task, ["CAPTION"])])
def test_nothing_else_is_got(pair: tuple[socket.socket, socket.socket], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ParcelError):
        carried(pair, _Got(*arguments))


def test_messages_arrive_in_order_and_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    reader = Reader(pair[1], RECORDS)
    data = b"".join(pack(each)[0] for each in ("one", "two"))
    for place in range(len(data)):
        pair[0].sendall(data[place : place + 1])
        if place < len(data) - 1:
            reader.fill()
            if (found := reader.next()) is not None:
                assert found == ("one",)
    assert reader.receive() == "two"


def test_an_error_keeps_what_it_says(pair: tuple[socket.socket, socket.socket]) -> None:
    error = BoxError("The box is empty.")
    error.index = 3
    found = carried(pair, error)
    assert isinstance(found, BoxError) and str(found) == "The box is empty." and found.index == 3


class Harm:
    """What a decoder that was taken over might send."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


@pytest.mark.parametrize("value", [Harm(), [Harm()], threading.Thread, os.getcwd, BoxError.with_traceback, Any])
def test_nothing_but_records_of_the_named_modules_is_made(
    pair: tuple[socket.socket, socket.socket], value: Any
) -> None:
    with pytest.raises(ParcelError):
        carried(pair, value)


@pytest.mark.parametrize(
    "data",
    [
        parcels.HEADER.pack(1 << 31, 0, 0),
        parcels.HEADER.pack(4, 1 << 20, 0),
        parcels.HEADER.pack(4, 0, 7),
        parcels.HEADER.pack(4, 0, 0) + b"junk",
        parcels.HEADER.pack(4, 0, 1) + b"junk",
        parcels.HEADER.pack(4, 1, 0) + parcels.SIZE.pack(1 << 40) + b"junk",
    ],
)
def test_bytes_that_are_no_message(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    pair[0].sendall(data)
    with pytest.raises(ParcelError):
        Reader(pair[1], RECORDS).receive()


def test_a_file_that_could_lose_its_memory_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    message, file = pack(np.zeros(100_000, np.uint8))
    assert file is not None
    loose = os.memfd_create("loose")
    os.ftruncate(loose, 200_000)
    socket.send_fds(pair[0], [message], [loose])
    os.close(file)
    os.close(loose)
    with pytest.raises(ParcelError, match="can shrink"):
        Reader(pair[1], RECORDS).receive()


def test_the_end_of_the_other_side(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(ClosedError):
        Reader(pair[1], RECORDS).receive()
    with pytest.raises(ClosedError):
        send(pair[1], pickle.PickleBuffer(bytes(1 << 20)))
