"""Questions by both clients to a real service, whose converser repeats the words of the question."""

from collections.abc import Iterator
from typing import Any

import pytest

from dynrefer import Client
from dynrefer.model import Finish, GroundedSpan, Message, Polygon, Role, Scribble
from dynrefer.service.client import InvalidRequest, ServerTooSlow
from tests.service.client.asking import ask_async_client, ask_client, stream_of_async_client, stream_of_client
from tests.service.conftest import image_bytes
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

IMAGE = image_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("tests.serve_fake", FAKE_PIECE_SECONDS="0") as started:
        started.await_ready()
        yield started
        assert started.end() == 0


@pytest.fixture(params=[ask_client, ask_async_client], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, server: Server) -> Any:
    return lambda *arguments, **options: request.param(server.address, *arguments, method="ask", **options)


@pytest.fixture(params=[stream_of_client, stream_of_async_client], ids=["Client", "AsyncClient"])
def stream(request: pytest.FixtureRequest, server: Server) -> Any:
    return lambda *arguments, **options: request.param(server.address, *arguments, **options)


def test_an_answer_with_its_boxes(ask: Any) -> None:
    reply = ask(IMAGE, "a dog at <region:left> now", {"left": (4, 4, 20, 20)}, request_id="mine")
    assert reply.content == "1: a dog at left now"
    assert [reply.content[slice(*each.span)] for each in reply.grounding] == ["dog", "left"]
    assert reply.grounding[1] == GroundedSpan((12, 16), (4, 4, 20, 20), 0.5, region="left")
    assert (reply.finish, reply.tokens, reply.probability) == (Finish.STOP, 6, 0.75)
    assert reply.info.request_id == "mine" and reply.info.model == "fake" and reply.info.timings_ms["total"] > 0


def test_further_turns_and_choices(ask: Any) -> None:
    first = ask(IMAGE, "a dog")
    messages = [Message(Role.USER, "a dog"), first.message, {"role": "user", "content": "where is it"}]
    assert ask(IMAGE, messages, max_tokens=2, ground=False).content == "3: where"
    reply = ask(IMAGE, "is it", answers=["yes", "no"])
    assert reply.content == "yes" and sum(each.probability for each in reply.answers) == pytest.approx(1)


def test_regions_of_every_form(ask: Any) -> None:
    regions = {
        "drawn": Polygon(((4, 4, 20, 4, 20, 20),)),
        "line": Scribble(((4, 4, 20, 20),)),
        "json": {"box": [4, 4, 20, 20]},
    }
    reply = ask(IMAGE, "<region:drawn> <region:line> <region:json>", regions)
    assert [each.region for each in reply.grounding] == ["drawn", "line", "json"]


def test_an_answer_in_pieces(stream: Any) -> None:
    pieces, reply = stream(IMAGE, "one two three four five dog")
    assert len(pieces) > 1 and "".join(pieces) == reply.content == "1: one two three four five dog"
    assert len(reply.grounding) == 1


def test_what_the_service_refuses(ask: Any, stream: Any) -> None:
    for method in (ask, stream):
        with pytest.raises(InvalidRequest, match="max_tokens is at most 256") as caught:
            method(IMAGE, "what", max_tokens=257)
        assert caught.value.field == "max_tokens"
        with pytest.raises(InvalidRequest, match="cannot be asked"):
            method(IMAGE, "unaskable")
        with pytest.raises(InvalidRequest) as caught:
            method(IMAGE, "what", {"a": (4, 4, 20, 20), "b": (900, 900, 990, 990)})
        assert caught.value.index == 1


def test_a_service_without_a_converser_and_a_deadline() -> None:
    with running("tests.serve_fake") as server:
        server.await_ready()
        with Client(server.address) as client:
            assert client.model().conversation is False
            with pytest.raises(InvalidRequest, match="Questions need a converser"):
                client.ask(IMAGE, "what")
    with running("tests.serve_fake", FAKE_PIECE_SECONDS="0.4") as server:
        server.await_ready()
        with Client(server.address) as client:
            assert client.model().conversation is True
            # Said by the service, as a rule, else by the client itself.
            with (
                pytest.raises(ServerTooSlow),
                client.ask_stream(IMAGE, "1 2 3 4 5 6 7", timeout=1.0) as pieces,
            ):
                list(pieces)
            assert client.ask(IMAGE, "one").content == "1: one"
