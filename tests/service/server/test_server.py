"""How the process listens and handles signals."""

import signal
import socket

import pytest
import uvicorn

from dynrefer.service.engine.executor import Phase
from dynrefer.service.server.server import DrainingServer, listen
from tests.fakes import FakePredictor, local_engine


def test_responses_are_not_delayed_by_nagles_algorithm() -> None:
    # asyncio sets TCP_NODELAY on accepted connections only where the listening socket names its protocol.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_an_error() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", listener.getsockname()[1])


def test_the_first_signal_drains_and_the_second_stops() -> None:
    engine = local_engine(FakePredictor)
    server = DrainingServer(uvicorn.Config(lambda: None), engine)
    server.handle_exit(signal.SIGTERM, None)
    assert engine.phase is Phase.DRAINING
    assert (server.should_exit, server.force_exit) == (True, False)
    server.handle_exit(signal.SIGTERM, None)
    assert server.force_exit
