"""What benchmarks/scale_out measures with: an exchange that sees what does not belong to it, and figures of a load."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.scale_out.exchanges import Answer, Left, Manner, Pool
from benchmarks.scale_out.load import Loaded, Plan
from benchmarks.scale_out.simulation import simulation

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: %s\r\n\r\nhi"


def asked(reply: Callable[[int], bytes | None], times: int = 1, manner: Manner | None = None) -> list[Answer]:
    """The answers to requests "0", "1", ... of a server that replies with these bytes, and with None not at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(4)
                number = int(head.lower().split(b"x-request-id: ")[1].split(b"\r\n")[0])
                if (written := reply(number)) is None:
                    writer.close()
                    return
                writer.write(written)
        except asyncio.IncompleteReadError:
            writer.close()

    async def run() -> list[Answer]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = Pool("127.0.0.1", server.sockets[0].getsockname()[1])
        found = [await pool.ask("/", {"X-Request-Id": str(place)}, b"body", manner) for place in range(times)]
        pool.close()
        server.close()
        return found

    return asyncio.run(run())


def test_answers_come_one_after_another_on_one_connection() -> None:
    found = asked(lambda number: OK % str(number).encode(), 3)
    assert [(each.status, each.body, each.surplus) for each in found] == [(200, b"hi", False)] * 3


def test_a_second_answer_is_seen() -> None:
    assert asked(lambda number: OK % str(number).encode() * 2)[0].surplus


def test_the_answer_to_another_request_is_seen() -> None:
    assert asked(lambda _: OK % b"7")[0].surplus


@pytest.mark.parametrize("written", [None, OK[:30], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
def test_no_whole_answer_is_none(written: bytes | None) -> None:
    if written is None:
        (found,) = asked(lambda _: None)
    else:
        (found,) = asked(lambda _: written, manner=Manner(patience_s=0.2))
    assert found.status == 0 and found.error


def test_a_client_that_leaves_has_left() -> None:
    with pytest.raises(Left):
        asked(lambda _: b"", manner=Manner(leave_after_s=0.05))


def test_the_rate_leaves_out_the_first_quarter_and_what_came_late() -> None:
    plan = Plan("", 0, 1, 8, 8.0)
    found = Loaded(plan, [200, 200, 503, 200, 200], [1.0] * 5, [1.0, 3.0, 4.0, 5.0, 9.0], 0.0, [])
    assert found.regions_per_s == pytest.approx(8 * 2 / 6)
    assert found.failed == 1


def test_the_simulation_gets_medians_over_the_rounds() -> None:
    def rounds(rate: float) -> list[dict[str, object]]:
        figures = {"clients": 8, "regions": 8, "p50_ms": 1.0, "p99_ms": 2.0, "generator_core_s_per_request": 0.001}
        core = {"edge": 0.01, "replica": 0.5, "image worker": 0.02}
        lone = {"p50_ms": 30.0, "core_s_per_request": core}
        return [
            {"alone": {"1": lone, "8": lone}, "saturated": {**figures, "ray_cores": 0.1, "regions_per_s": rate + step}}
            for step in (-1.0, 0.0, 1.0)
        ]

    batch = {"batch_core_s": {"1": 0.4, "8": 0.6}, "decode_and_cut_core_s": {"1": 0.01, "8": 0.02}}
    crowded = {"batch_core_s": {"1": 0.5, "8": 0.7}, "decode_and_cut_core_s": {"1": 0.02, "8": 0.04}}
    found = simulation({"ray, 1 replica": rounds(20.0), "ray, 2 replicas": rounds(36.0)}, batch, crowded)  # type: ignore[dict-item]
    assert found["crowding"] == 2 and found["batch_s"] == crowded["batch_core_s"]
    assert [each["regions_per_s"] for each in found["runs"]] == [20.0, 36.0]
    assert found["replica_core_s"] == {"1": pytest.approx(0.2), "8": 0.0}
