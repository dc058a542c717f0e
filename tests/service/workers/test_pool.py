"""Worker processes, real ones: what ends them, what that costs, and what it leaves behind."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrefer.model import PreparationSpec, RegionQuery
from dynrefer.model.errors import BoxError, DamagedImageError, ImageTooCostlyError, InvalidQueriesError
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.errors import UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.workers.image_task import DescribeInput, PreparedImage
from dynrefer.service.workers.pool import PoolLimits, WorkerPool, default_processes
from dynrefer.service.workers.threads import WorkerThreads
from tests.fake_preparation import FakePreparation
from tests.fakes import context_of
from tests.repository import ROOT
from tests.service.workers import hostile

WAIT_S = 60
SPEC = PreparationSpec(3, 32, dict.fromkeys(("caption", "tags", "attributes", "categories"), (0.0, 0.4, 1.0)))


def request(
    decode: Callable[..., Any] = hostile.plain,
    data: bytes = b"abc",
    queries: Callable[..., list[RegionQuery]] = hostile.one_query,
    **named: Any,
) -> DescribeInput:
    count = {hostile.bad_queries: 4, hostile.many_queries: 200}.get(queries, 1)
    return DescribeInput(count, data, decode, queries, **named)


class Bench:
    """A pool under test."""

    def __init__(self, **limits: Any) -> None:
        chosen = {"processes": 1, "cpu_s": 30.0, "wall_s": 60.0, "max_pixels": 1 << 24, **limits}
        self.metrics = Metrics()
        self.pool = WorkerPool(PoolLimits(**chosen), self.metrics)

    async def ask(self, asked: DescribeInput | None = None, key: str | None = None) -> PreparedImage[Any]:
        async with asyncio.timeout(WAIT_S):
            return await self.pool.prepare(FakePreparation(), asked or request(), context_of(key))

    def kills(self, reason: str) -> float:
        found = self.metrics.registry.get_sample_value("dynrefer_image_worker_kills_total", {"reason": reason})
        assert found is not None
        return found

    @property
    def processes(self) -> list[int]:
        return [worker.process for worker in self.pool._all]

    async def settle(self) -> None:
        """Until every process that was ended is reaped."""
        while self.pool._background:
            await asyncio.wait(list(self.pool._background))


@asynccontextmanager
async def bench(**limits: Any) -> AsyncIterator[Bench]:
    made = Bench(**limits)
    made.pool.start()
    await made.settle()
    try:
        yield made
    finally:
        await made.pool.stop()


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())  # type: ignore[arg-type]


def gone(process: int) -> bool:
    """Whether a process has ended: a zombie too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def test_processes_and_threads_prepare_the_same() -> None:
    async def scene() -> None:
        asked = request(queries=hostile.many_queries)
        threads = WorkerThreads(1, lambda: None, Metrics())
        async with bench() as under:
            here = await threads.prepare(SPEC, asked, context_of())
            there = await under.pool.prepare(SPEC, asked, context_of())
        await threads.stop()
        assert here.info == there.info and len(there.ready) == 200
        for one, other in zip(here.ready, there.ready, strict=True):
            assert one.query == other.query and one.box == other.box
            assert one.inputs[0].plan == other.inputs[0].plan
            assert np.array_equal(one.inputs[0].views.images, other.inputs[0].views.images)
            assert one.inputs[0].views.digests == other.inputs[0].views.digests

    run(scene)


@pytest.mark.parametrize(
    ("decode", "limits", "reason"),
    [(hostile.spin, {"cpu_s": 0.2}, "cpu"), (hostile.hang, {"wall_s": 0.3}, "wall")],
)
def test_an_image_beyond_its_limit_ends_its_process(decode: Callable[..., Any], limits: Any, reason: str) -> None:
    async def scene() -> None:
        async with bench(**limits) as under:
            await under.ask()
            with pytest.raises(ImageTooCostlyError, match="more time"):
                await under.ask(request(decode))
            assert under.kills(reason) == 1
            await under.settle()
            under.pool._limits = PoolLimits(1, 30.0, 60.0, 1 << 24)  # on a slow machine a good image takes time too
            assert (await under.ask()).ready[0].pixel == tuple(b"abc")

    run(scene)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_costs_one_request_after_a_second_try(number: int) -> None:
    async def scene() -> None:
        async with bench() as under:
            with pytest.raises(ImageTooCostlyError, match="ends the process"):
                await under.ask(request(hostile.die, bytes([number])))
            assert under.kills("crash") == 2
            assert (await under.ask()).left == 0

    run(scene)


def test_a_process_that_is_killed_by_chance_costs_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with bench() as under:
            found = await under.ask(request(hostile.die_once, str(tmp_path / "mark").encode()))
            assert found.left == 0 and under.kills("crash") == 1

    run(scene)


def test_an_image_beyond_the_limit_of_memory_is_refused() -> None:
    async def scene() -> None:
        async with bench() as under:
            with pytest.raises(ImageTooCostlyError, match="more memory"):
                await under.ask(request(hostile.eat))
            before = under.processes
            assert (await under.ask()).left == 0
            assert under.processes == before  # the process itself was not harmed

    run(scene)


def test_errors_of_the_task_come_back_as_they_are() -> None:
    async def scene() -> None:
        async with bench() as under:
            with pytest.raises(DamagedImageError, match=r"loaded: \[\]"):
                await under.ask(request(hostile.refuse))
            with pytest.raises(RuntimeError, match="a secret"):
                await under.ask(request(hostile.fail))
            with pytest.raises(InvalidQueriesError) as caught:
                await under.ask(request(queries=hostile.bad_queries))
            assert [(type(each), each.index) for each in caught.value.errors] == [(BoxError, 1), (BoxError, 2)]
            found = await under.ask(request(queries=hostile.bad_queries, report_errors=True))
            assert sorted(found.regions) == [0, 3] and sorted(found.errors) == [1, 2] and not found.left
            with pytest.raises(RuntimeError, match="cannot be read"):
                await under.ask(request(partial(hostile.plain, nothing=Unimportable())))

    run(scene)


class Unimportable:
    """Cannot be made from its pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


def test_cancelling_ends_the_process() -> None:
    async def scene() -> None:
        async with bench() as under:
            await under.ask()
            (process,) = under.processes
            asked = asyncio.create_task(under.ask(request(hostile.hang)))
            await asyncio.sleep(0.05)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await until(lambda: gone(process))
            assert under.kills("cancelled") == 1
            assert (await under.ask()).left == 0

    run(scene)


def test_small_images_do_not_wait_for_large_ones(tmp_path: Path) -> None:
    """The long lane has one place; whoever else is long waits for it, without a process."""
    go = tmp_path / "go"

    async def scene() -> None:
        async with bench() as under:
            large = [asyncio.create_task(under.ask(request(hostile.wait_large, str(go).encode()))) for _ in range(4)]
            await until(lambda: under.pool._lanes.waiting == 3)
            assert (await under.ask()).left == 0
            assert not any(each.done() for each in large)
            go.touch()
            assert [each.left for each in await asyncio.gather(*large)] == [0] * 4
            assert not sum(under.kills(reason) for reason in ("cpu", "wall", "turn", "cancelled", "crash"))

    run(scene)


def test_what_cannot_be_interrupted_begins_again_in_the_long_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynrefer.service.workers.pool.TURN_S", 0.05)
    monkeypatch.setattr("dynrefer.service.workers.pool.TURN_WALL_S", 0.1)
    go = tmp_path / "go"

    async def scene() -> None:
        async with bench() as under:
            large = asyncio.create_task(under.ask(request(hostile.wait_large, str(go).encode())))
            await until(lambda: len(under.pool._lanes._inside[list(under.pool._lanes._inside)[1]]) == 1)
            hangs = asyncio.create_task(under.ask(request(hostile.hang)))
            await until(lambda: under.kills("turn") >= 1)
            assert (await under.ask()).left == 0
            go.touch()
            assert (await large).left == 0
            hangs.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hangs

    run(scene)


def test_the_pool_survives_the_end_of_its_fork_server() -> None:
    async def scene() -> None:
        async with bench() as under:
            await under.ask()
            (process,) = under.processes
            server = under.pool._server._process
            assert server is not None
            server.kill()
            await until(lambda: gone(process))  # the workers end with it
            assert (await under.ask()).left == 0

    run(scene)


def test_without_processes_the_answer_is_that_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        async with bench() as under:
            with pytest.raises(UnavailableError, match="no process to decode"):
                await under.ask()
            monkeypatch.undo()
            assert (await under.ask()).left == 0

    run(scene)


def test_a_stopped_pool_is_closed() -> None:
    async def scene() -> None:
        async with bench() as under:
            asked = asyncio.create_task(under.ask(request(hostile.hang)))
            await until(lambda: bool(under.processes))
            await under.pool.stop()
            with pytest.raises(ExecutorClosed):
                await asked

    run(scene)


@pytest.mark.parametrize(
    ("device", "gpu", "cores", "processes"),
    [
        ("cpu", True, 16, 2),
        ("auto", False, 16, 2),
        ("auto", True, 16, 14),
        ("cuda:1", True, 2, 2),
        ("cuda", True, 96, 32),
    ],
)
def test_processes_suit_the_device(
    device: str, gpu: bool, cores: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert default_processes(device, lambda: gpu) == processes


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_stop_while_processes_are_made_leaves_nothing_to_watch(turns: int) -> None:
    async def scene() -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        made = Bench(processes=2)
        made.pool.start()
        asked = asyncio.create_task(made.ask())
        for _ in range(turns):
            await asyncio.sleep(0)
        await made.pool.stop()
        with pytest.raises(ExecutorClosed):
            await asked
        await made.settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()  # an exception that nobody took is reported once its task is collected
        assert not errors

    run(scene)


def held() -> tuple[int, list[str]]:
    return len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))


def test_nothing_is_left_behind_by_1000_requests_and_50_kills() -> None:
    async def scene() -> None:
        async with bench(processes=2) as under:
            await asyncio.gather(*(under.ask() for _ in range(8)))
            await under.settle()
            before, processes = held(), len(under.processes)
            image = bytes(100_000)  # goes through shared memory
            for batch in range(50):
                asked = [asyncio.create_task(under.ask(request(data=image))) for _ in range(20)]
                await asyncio.sleep(0)
                os.kill(under.processes[batch % len(under.processes)], signal.SIGKILL)
                assert all(not each.left for each in await asyncio.gather(*asked))
            await under.settle()
            assert held()[1] == before[1]
            assert held()[0] <= before[0] + 2  # an idle process more or less
            assert len(under.processes) <= processes + 2

    run(scene)


OWNER = """
import asyncio, sys
from tests.service.workers.test_pool import Bench

async def main():
    under = Bench(processes=2)
    under.pool.start()
    await under.settle()
    print(under.pool._server._process.pid, *under.processes, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_the_processes_end_with_the_service_however_it_ends() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    processes = [int(each) for each in owner.stdout.readline().split()]
    assert len(processes) == 3 and not any(map(gone, processes))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    asyncio.run(until(lambda: all(map(gone, processes))))


def test_a_task_that_ends_early_is_a_defect_and_not_begun_again() -> None:
    async def scene() -> None:
        async with bench() as under:
            two = DescribeInput(2, b"abc", hostile.plain, hostile.one_query)  # which makes one query
            with pytest.raises(RuntimeError, match="before its end"):
                await under.ask(two)

    run(scene)
