"""Questions by both clients, answered whole and in pieces, by a server that does what it is told."""

import asyncio
import socket
import time
from typing import Any

import pytest

from dynrefer import AsyncClient, BoxError, BrokenAnswer, Client, PointPrompt, QueryError, ServerTooSlow
from dynrefer.model import (
    AnswerProbability,
    ConversationError,
    Finish,
    GroundedSpan,
    MaskFile,
    Message,
    PointsError,
    Polygon,
    Role,
    Scribble,
)
from dynrefer.service.client import InvalidRequest, ServerFailed
from dynrefer.service.client.conversation_fields import ask_request
from dynrefer.service.client.conversations import EventReader, served_reply
from tests.service.client.asking import (
    QUICK,
    Ask,
    ask_async_client,
    ask_client,
    stream_of_async_client,
    stream_of_client,
)
from tests.service.client.scripted import Answer, Received, answer, problem, raw, scripted
from tests.service.client.scripted_events import ANSWERED, DELTAS, DONE, HEAD, PIECES, chunk, event, events

BOX = (1, 2, 3, 4)
PROBLEM = {
    "type": "urn:problem-type:dynrefer:deadline",
    "title": "Too late",
    "status": 504,
    "detail": "The deadline passed.",
    "instance": "urn:request:req_7",
}


@pytest.fixture(params=[ask_client, ask_async_client], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """ask(url, ...) asks a new client."""

    def asked(url: str, *arguments: Any, **options: Any) -> Any:
        return request.param(url, *arguments, method="ask", **options)

    return asked


@pytest.fixture(params=[stream_of_client, stream_of_async_client], ids=["Client", "AsyncClient"])
def stream(request: pytest.FixtureRequest) -> Ask:
    """stream(url, ...) -> the pieces of an answer, and all of it."""
    found: Ask = request.param
    return found


def test_a_question_and_its_answer(ask: Ask) -> None:
    with scripted(answer(document=ANSWERED)) as server:
        reply = ask(server.url, b"image", "What is <region:a>?", {"a": BOX}, request_id="mine")
    assert reply.content == "A dog 🐕 left of a mat." and reply.probability == 0.5
    assert reply.grounding == (
        GroundedSpan((2, 5), (1, 2, 3.5, 4), 0.75, verified=True, region="a"),
        GroundedSpan((18, 21), (4, 2, 8, 6)),
    )
    assert [reply.content[slice(*each.span)] for each in reply.grounding] == ["dog", "mat"]
    assert (reply.finish, reply.tokens, reply.answers) == (Finish.LENGTH, 9, ())
    assert reply.info.request_id == "req_1" and reply.info.image.width == 8
    assert reply.message == Message(Role.ASSISTANT, reply.content)
    (received,) = server.received
    assert received.line == "POST /v1/converse HTTP/1.1" and received.headers["x-request-id"] == "mine"
    assert received.headers["accept"] == "application/json" and received.part("image") == b"image"
    assert received.document == {
        "messages": [{"role": "user", "content": "What is <region:a>?"}],
        "regions": [{"id": "a", "box": [1, 2, 3, 4]}],
    }


def test_allowed_answers(ask: Ask) -> None:
    listed = [{"answer": "yes", "probability": 0.9}, {"answer": "no", "probability": 0.1}]
    message = {"role": "assistant", "content": "yes", "answers": listed}
    with scripted(answer(document={**ANSWERED, "message": message, "finish_reason": "stop"})) as server:
        reply = ask(server.url, b"image", "Is it a dog?", answers=("yes", "no"))
    assert reply.answers == (AnswerProbability("yes", 0.9), AnswerProbability("no", 0.1))
    assert server.received[0].document["answers"] == ["yes", "no"]


def test_a_later_turn(ask: Ask) -> None:
    first = Message(Role.USER, "What is it?")
    with scripted(answer(document=ANSWERED)) as server:
        reply = ask(server.url, "https://a.example/a.png", [first])
        messages = [first, reply.message, {"role": "user", "content": "Which colour?"}]
        ask(server.url, "https://a.example/a.png", messages, max_tokens=8, ground=False, verify=False)
    assert server.received[1].document == {
        "image": {"url": "https://a.example/a.png"},
        "messages": [
            {"role": "user", "content": "What is it?"},
            {"role": "assistant", "content": "A dog 🐕 left of a mat."},
            {"role": "user", "content": "Which colour?"},
        ],
        "max_tokens": 8,
        "ground": False,
        "verify": False,
    }


@pytest.mark.parametrize(
    ("given", "members"),
    [
        (BOX, {"box": [1, 2, 3, 4]}),
        (Polygon(((1, 1, 6, 1, 6, 5),)), {"polygon": [[1, 1, 6, 1, 6, 5]]}),
        (Scribble(((1, 1, 6, 5),)), {"scribble": [[1, 1, 6, 5]]}),
        (MaskFile(b"png"), {"mask": {"png": "cG5n"}}),
        (PointPrompt(3, 4), {"points": [{"x": 3, "y": 4, "positive": True}]}),
        (
            [(3, 4), PointPrompt(5, 6, positive=False)],
            {"points": [{"x": 3, "y": 4, "positive": True}, {"x": 5, "y": 6, "positive": False}]},
        ),
        ({"box": [0, 0, 1, 1], "id": "other"}, {"box": [0, 0, 1, 1]}),
    ],
)
def test_regions_of_every_kind(given: Any, members: dict[str, Any]) -> None:
    document = ask_request(b"image", "What is <region:a>?", {"a": given}, {}).document
    assert document is not None and document["regions"] == [{"id": "a", **members}]


@pytest.mark.parametrize(
    ("question", "regions", "options", "error", "sentence"),
    [
        ("", {}, {}, ConversationError, "text is empty"),
        ([], {}, {}, ConversationError, "ask something"),
        ("What is <region:b>?", {"a": BOX}, {}, ConversationError, "'<region:b>' refers to a region"),
        ([{"role": "system", "content": "a"}], {}, {}, ConversationError, "A message is"),
        ("What?", {"a b": BOX}, {}, ConversationError, "An id has"),
        ("What?", {}, {"answers": ["yes"]}, ConversationError, "leaves nothing to choose"),
        ("What?", {}, {"max_tokens": 0}, ConversationError, "'max_tokens' must be"),
        ("What?", {"a": BOX, "b": (1, 2, 3)}, {}, BoxError, "four numbers"),
        ("What?", {"a": [()]}, {}, PointsError, "point"),
        ("What?", {}, {"max_token": 3}, TypeError, "Did you mean 'max_tokens'"),
    ],
)
def test_what_is_refused_before_anything_is_sent(
    ask: Ask, stream: Ask, question: Any, regions: Any, options: Any, error: type[Exception], sentence: str
) -> None:
    with scripted(answer(document=ANSWERED)) as server:
        for method in (ask, stream):
            with pytest.raises(error, match=sentence) as caught:
                method(server.url, b"image", question, regions, **options)
    assert server.received == []
    if error is BoxError:
        assert isinstance(caught.value, QueryError) and caught.value.index == 1


def test_what_the_service_refuses(ask: Ask, stream: Ask) -> None:
    flaw = {"pointer": "/regions/0/box", "detail": "Outside."}
    for method in (ask, stream):
        with scripted(problem(422, "The request is not valid.", flaw)) as server:
            with pytest.raises(InvalidRequest) as caught:
                method(server.url, b"image", "What?", {"a": BOX})
            assert (caught.value.index, caught.value.field) == (0, "box")


# In pieces


def test_an_answer_in_pieces(stream: Ask) -> None:
    with scripted(events(*DELTAS, DONE)) as server:
        pieces, reply = stream(server.url, b"image", "What is it?")
    assert pieces == PIECES and reply.content == "".join(PIECES) and len(reply.grounding) == 2
    (received,) = server.received
    assert received.document["stream"] is True and received.headers["accept"] == "text/event-stream"


def test_what_no_piece_has_said_comes_at_the_end(stream: Ask) -> None:
    with scripted(events(event("other", {}), b": a comment\n\n", DELTAS[0], DONE)) as server:
        pieces, reply = stream(server.url, b"image", "What is it?")
    assert pieces == ["A dog", " 🐕 left of a mat."] and reply.content == "".join(pieces)


def test_a_full_queue_is_waited_for_before_the_first_piece(stream: Ask) -> None:
    with scripted(problem(429, retry_after="0"), raw(b""), events(*DELTAS, DONE)) as server:
        assert stream(server.url, b"image", "What is it?")[0] == PIECES
    assert len(server.received) == 3


def test_a_failure_after_the_first_piece(stream: Ask) -> None:
    with scripted(events(DELTAS[0], event("error", PROBLEM))) as server:
        with pytest.raises(ServerTooSlow, match="The deadline passed.") as caught:
            stream(server.url, b"image", "What is it?")
        assert caught.value.request_id == "req_7"  # type: ignore[attr-defined]  # it is a DeadlinePassed
    with scripted(events(event("error", {**PROBLEM, "status": 500}))) as server, pytest.raises(ServerFailed):
        stream(server.url, b"image", "What is it?")
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("answered", "sentence"),
    [
        (events(*DELTAS), "ended before the one"),
        (events(*DELTAS, whole=False), "broke off"),
        (events(b"event: delta\ndata: {]\n\n"), "not one of a dynrefer service"),
        (events(event("delta", {"text": "a"})), "it has no 'content'"),
        (events(event("done", {"id": "req_1"})), "it has no 'message'"),
        (answer(document=ANSWERED), "no stream of events"),
    ],
)
def test_an_answer_that_is_no_whole_stream(stream: Ask, answered: Answer, sentence: str) -> None:
    with scripted(answered) as server, pytest.raises(BrokenAnswer, match=sentence):
        stream(server.url, b"image", "What is it?")


def stall(connection: socket.socket, _: Received) -> bool:
    """A piece, and then nothing until the client has gone."""
    connection.sendall(HEAD + chunk(DELTAS[0]))
    connection.recv(1)
    return False


def test_a_stream_that_stops(stream: Ask) -> None:
    with scripted(stall) as server, pytest.raises(ServerTooSlow, match=r"within 0\.3 seconds"):
        stream(server.url, b"image", "What is it?", timeout=0.3)


@pytest.mark.filterwarnings("error")
def test_whoever_stops_reading_ends_the_connection() -> None:
    def wait_for_none(server: Any) -> None:
        until = time.monotonic() + 10
        while server.open_connections and time.monotonic() < until:
            time.sleep(0.005)
        assert server.open_connections == 0

    async def one_piece(url: str) -> str:
        async with AsyncClient(url, retries=QUICK) as client:
            async with client.ask_stream(b"image", "What is it?") as pieces:
                piece = await anext(pieces)
            wait_for_none(server)
            return piece

    with scripted(stall) as server:
        with Client(server.url, retries=QUICK) as client:
            with client.ask_stream(b"image", "What is it?") as pieces:
                assert next(pieces) == "A dog"
                with pytest.raises(RuntimeError, match="not whole yet"):
                    _ = pieces.reply
            wait_for_none(server)
        assert asyncio.run(one_piece(server.url)) == "A dog"


def test_nothing_is_sent_before_the_first_piece_is_read() -> None:
    with scripted(events(*DELTAS, DONE)) as server, Client(server.url) as client:
        client.ask_stream(b"image", "What is it?").close()
        assert server.received == []


def test_events_are_read_however_their_bytes_are_cut() -> None:
    data = b"".join([*DELTAS, b": kept alive\r\n\r\n", DONE]).replace(b"\n", b"\r\n")
    for size in (1, 2, 3, 7, len(data)):
        reader, pieces = EventReader(), list[str]()
        for start in range(0, len(data), size):
            pieces += reader.pieces(data[start : start + size])
        assert "".join(pieces) == "".join(PIECES) and reader.whole() == served_reply(ANSWERED)
