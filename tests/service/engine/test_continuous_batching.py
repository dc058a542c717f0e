"""Items that join and leave a batch at any time, on a device whose time is virtual: nothing here waits for a clock.

An item's whole run gives its double, its run in the batch its triple: so it shows which way it went.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, StoppedError
from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.engine.continuous_batching import BESIDE, MOST_FAULTS, PLACES_PER_FREE_ONE
from dynrefer.service.engine.reservations import ExecutorClosed, Kind, RegionResult, Reservation, WorkKind
from dynrefer.service.engine.throughput import PATIENCE
from dynrefer.service.engine.watchdog import Watchdog
from dynrefer.service.errors import DeadlineExceeded
from tests.fake_batch import FakeBatch
from tests.service.engine.conftest import WAIT_S

Results = Future[list[RegionResult[int]]]
STEPS, CAPACITY = 20, 64


class Simulation:
    """A batcher of integers in front of a device. `serve` runs the loop in the calling thread until it is closed.

    at: what happens before a step, by its number, from 0. act: the outputs of a whole batch. whole: those that were
    run.
    """

    def __init__(self, regions: int = CAPACITY, views: int = 10_000, **batch: Any) -> None:
        limits = Limits(queue_regions=10_000, batch_regions=regions, batch_views=views, batch_wait_s=0.0)
        self.cost: Callable[[int], int] = lambda item: 1
        self.batcher: Batcher[int, int] = Batcher(limits, lambda item: self.cost(item))
        self.device: FakeBatch[int, int] = FakeBatch(
            lambda item: item * 3, cost=lambda item: self.cost(item), steps=STEPS, capacity=CAPACITY, **batch
        )
        self.device.step_hook = self._before_step
        self.at: dict[int, Callable[[], object]] = {}
        self.step_hook: Callable[[Sequence[int]], None] = lambda items: None
        self.act: Callable[[Sequence[int]], Sequence[int]] = lambda items: [item * 2 for item in items]
        self.whole: list[list[int]] = []

    def submit(self, *items: int, key: str | None = None, kind: Kind = WorkKind.DESCRIBE) -> Results:
        return self.reserve(*items, key=key, kind=kind)[1]

    def reserve(
        self, *items: int, key: str | None = None, kind: Kind = WorkKind.DESCRIBE
    ) -> tuple[Reservation[int, int], Results]:
        reservation = self.batcher.reserve(len(items), key, math.inf)
        return reservation, reservation.submit(items, kind)

    def serve(self) -> None:
        """Close it, so that it ends once all has run."""
        if not self.at:
            self.batcher.close()
        self.batcher.serve(self._run, self.device)
        assert self.batcher.waiting == 0 and not self.batcher.running and self.device.items == []

    def _before_step(self, items: Sequence[int]) -> None:
        happens = self.at.pop(len(self.device.rows), None)
        if happens is not None:
            happens()
            if not self.at:
                self.batcher.close()
        self.step_hook(items)

    def _run(self, kind: Kind, items: Sequence[int], should_stop: Callable[[], bool]) -> Sequence[int]:
        assert kind is WorkKind.SEGMENT or not self.device.items, "a whole batch is run beside others"
        self.whole.append(list(items))
        return self.act(items)


def outputs(future: Results) -> list[int | None]:
    return [result.output for result in future.result(0)]


def closed_loop(simulation: Simulation, clients: int, regions: int, requests: int) -> None:
    """So many clients, each of which sends its next request once the last one is answered."""
    left = [requests] * clients

    def send(client: int) -> None:
        left[client] -= 1
        future = simulation.submit(*range(regions), key=str(client))
        future.add_done_callback(lambda _: send(client) if left[client] else None)
        if not any(left):
            simulation.batcher.close()

    for client in range(clients):
        send(client)
    simulation.at[10**9] = lambda: None  # the clients close it
    simulation.serve()


@pytest.mark.parametrize(("clients", "regions"), [(32, 1), (16, 8), (100, 1)])
def test_clients_in_a_closed_loop_keep_the_device_busy(clients: int, regions: int) -> None:
    """Newcomers have their turn at every fourth step, as they would where encoding their views delays the others."""
    simulation = Simulation(every=4)
    closed_loop(simulation, clients, regions, requests=20)
    most = min(clients * regions, CAPACITY)
    # Without the last requests, when clients have left.
    rows = simulation.device.rows[: -2 * STEPS]
    assert sum(rows) / len(rows) >= 0.9 * most
    assert not simulation.whole


def test_one_region_beside_a_large_request_is_done_after_its_own_steps() -> None:
    simulation = Simulation()
    large = simulation.submit(*range(128))
    small: list[Results] = []
    done_after: list[int] = []

    def arrive() -> None:
        small.append(simulation.submit(1000))
        small[0].add_done_callback(lambda _: done_after.append(len(simulation.device.rows)))

    simulation.at[7] = arrive
    simulation.serve()
    assert outputs(small[0]) == [3000] and len(outputs(large)) == 128
    # It joined after the step before which it had arrived: its own steps and one more.
    assert done_after == [7 + 1 + STEPS]
    free = CAPACITY // PLACES_PER_FREE_ONE
    assert max(simulation.device.rows) == CAPACITY - free + 1 and simulation.device.rows[0] >= CAPACITY - free


def test_places_that_are_kept_go_to_requests_that_have_none() -> None:
    simulation = Simulation()
    simulation.submit(*range(100))
    for item in range(200, 208):
        simulation.submit(item, item)
    simulation.serve()
    first = simulation.device.admissions[0]
    assert len(first) == CAPACITY - CAPACITY // PLACES_PER_FREE_ONE
    assert sorted(item for item in first if item >= 200) == sorted(2 * list(range(200, 208)))
    # More requests than places without the kept ones: all places are theirs.
    simulation = Simulation()
    for item in range(CAPACITY):
        simulation.submit(item)
    simulation.serve()
    assert simulation.device.admissions == [list(range(CAPACITY))]


def test_keys_take_turns() -> None:
    simulation = Simulation(regions=8)
    busy = [simulation.submit(*range(100, 120), key="busy") for _ in range(5)]
    idle = simulation.submit(*range(8), key="idle")
    simulation.serve()
    assert [sum(item < 100 for item in joined) for joined in simulation.device.admissions[:2]] == [4, 4]
    assert all(len(outputs(future)) == 20 for future in busy) and outputs(idle) == [item * 3 for item in range(8)]


def test_results_tell_when_and_with_whom_they_joined() -> None:
    simulation = Simulation()
    first = simulation.submit(1, 2)
    second: list[Results] = []
    simulation.at[5] = lambda: second.append(simulation.submit(3))
    simulation.serve()
    one, two = first.result(0)
    (three,) = second[0].result(0)
    assert one.batch == two.batch != three.batch
    assert all(each.overlapping and each.error is None and each.queue_ms >= 0 for each in (one, two, three))


def test_a_request_in_parts_and_with_room_that_it_gives_back() -> None:
    simulation = Simulation()
    reservation = simulation.batcher.reserve(10)
    futures = [reservation.submit([1, 2])]

    def submit_more() -> None:
        futures.append(reservation.submit([3]))
        assert simulation.batcher.waiting == 8
        reservation.give_back()

    simulation.at[5] = submit_more
    simulation.serve()
    assert [outputs(future) for future in futures] == [[3, 6], [9]]


def test_views_bound_those_that_join_together() -> None:
    simulation = Simulation(views=5)
    simulation.cost = lambda item: 2
    future = simulation.submit(*range(6))
    simulation.serve()
    assert [len(joined) for joined in simulation.device.admissions] == [2, 2, 2]
    assert len(outputs(future)) == 6 and not simulation.whole


def test_a_region_that_the_batch_has_no_room_for_is_run_whole_once_nothing_else_is_there() -> None:
    simulation = Simulation(views=5)
    simulation.cost = lambda item: item
    before, large, after = simulation.submit(1), simulation.submit(9), simulation.submit(2)
    simulation.serve()
    assert simulation.whole == [[9]]
    assert (outputs(before), outputs(large), outputs(after)) == ([3], [18], [6])


def test_masks_are_found_a_few_at_a_time_between_two_steps() -> None:
    simulation = Simulation()
    described = simulation.submit(1)
    masks: list[Results] = []
    here: list[int] = []
    simulation.at[3] = lambda: masks.append(simulation.submit(*range(2, 2 + BESIDE + 1), kind=WorkKind.SEGMENT))
    simulation.at[12] = lambda: here.extend(map(len, simulation.whole))
    simulation.serve()
    assert here == [BESIDE, 1] and len(simulation.device.rows) == STEPS  # nobody waited for the other's end
    assert outputs(described) == [3] and outputs(masks[0]) == [2 * item for item in range(2, 2 + BESIDE + 1)]


def test_work_of_another_kind_is_run_whole_in_its_turn() -> None:
    simulation = Simulation()
    described, other = simulation.submit(1), simulation.submit(2, 3, kind="count")
    after: list[Results] = []
    simulation.at[5] = lambda: after.append(simulation.submit(4))
    simulation.serve()
    assert outputs(described) == [3] and outputs(other) == [4, 6] and outputs(after[0]) == [12]
    assert simulation.whole == [[2, 3]] and simulation.device.admissions == [[1], [4]]


def test_a_cancelled_request_frees_its_places_at_once() -> None:
    simulation = Simulation(regions=8)
    reservation, gone = simulation.reserve(*range(20))
    waiting = simulation.submit(*range(100, 108))
    simulation.at[3] = lambda: reservation.__exit__()
    simulation.serve()
    assert isinstance(gone.exception(0), StoppedError)
    assert outputs(waiting) == [item * 3 for item in range(100, 108)]
    # The first four of each; the places of the request that left went to the rest of the other after that step.
    assert simulation.device.admissions == [[0, 100, 1, 101, 2, 102, 3, 103], [104, 105, 106, 107]]
    assert len(simulation.device.rows) == 3 + 1 + STEPS


def test_a_batch_that_still_works_for_what_was_dropped_is_let_come_to_its_end() -> None:
    simulation = Simulation(linger=3)
    reservation, gone = simulation.reserve(1, 2)
    after: list[Results] = []

    def leave() -> None:
        reservation.__exit__()
        after.append(simulation.submit(3))

    simulation.at[4] = leave
    simulation.serve()
    assert isinstance(gone.exception(0), StoppedError)
    assert outputs(after[0]) == [9] and not simulation.whole
    assert simulation.device.time == 4 + 1 + 3 + STEPS


@pytest.mark.parametrize(("regions", "error"), [(2, None), (8, DeadlineExceeded)])
def test_what_is_beyond_its_deadline_leaves(regions: int, error: type[Exception] | None) -> None:
    """Whether all of the request is on the device, or some of it still waits."""
    simulation = Simulation(regions=4)
    reservation, late = simulation.reserve(*range(regions))
    other = simulation.submit(50)

    def expire() -> None:
        reservation._request.deadline = time.monotonic() - 1

    simulation.at[5] = expire
    simulation.serve()
    assert outputs(other) == [150]
    assert max(simulation.device.rows[6:]) == 1
    if error is not None:
        assert isinstance(late.exception(0), error)
    else:
        assert all(isinstance(result.error, StoppedError) for result in late.result(0))


def bad(*items: int, error: type[Exception] = ValueError) -> Callable[[Sequence[int]], Any]:
    """Fails for those items."""

    def check(present: Sequence[int]) -> Any:
        if set(items) & set(present):
            raise error
        return [item * 2 for item in present]

    return check


def test_a_bad_region_fails_alone_and_those_on_the_device_stay() -> None:
    simulation = Simulation()
    there = simulation.submit(1, 2)
    newcomers: list[Results] = []
    simulation.device.admit_hook = simulation.act = bad(40)
    simulation.at[5] = lambda: newcomers.append(simulation.submit(10, 20, 30, 40))
    simulation.serve()
    assert outputs(there) == [3, 6]
    results = newcomers[0].result(0)
    assert [each.output for each in results] == [30, 60, 90, None] and isinstance(results[3].error, ValueError)
    assert simulation.whole == [[40]]
    assert simulation.device.admissions == [[1, 2], [10, 20], [30]]
    assert simulation.batcher.cap == CAPACITY


def test_a_failing_step_runs_all_anew_and_the_bad_region_fails_alone() -> None:
    simulation = Simulation()
    future = simulation.submit(10, 20, 30, 40)
    after: list[Results] = []
    simulation.step_hook = simulation.act = bad(40)

    def submit_more() -> None:
        after.append(simulation.submit(50))

    simulation.at[0] = submit_more
    simulation.serve()
    assert [each.output for each in future.result(0)] == [20, 40, 60, None]
    assert simulation.whole == [[10, 20, 30, 40], [10, 20], [30, 40], [30], [40]]
    assert outputs(after[0]) == [150]  # in the batch, which went on empty
    assert simulation.batcher.cap == CAPACITY


def test_want_of_memory_in_joining_lowers_the_cap() -> None:
    simulation = Simulation()
    there = simulation.submit(*range(10))

    def hold(newcomers: Sequence[int]) -> None:
        if len(simulation.device.items) + len(newcomers) > 14:
            raise DeviceMemoryError

    later: list[Results] = []
    simulation.device.admit_hook = hold
    simulation.at[5] = lambda: later.append(simulation.submit(*range(20, 28)))
    simulation.serve()
    # Eight beside ten did not fit: they waited until nothing else was there.
    assert simulation.device.admissions == [list(range(10))] and len(simulation.device.rows) == STEPS
    assert simulation.whole == [list(range(20, 28))]
    assert outputs(there) == [item * 3 for item in range(10)]
    assert outputs(later[0]) == [item * 2 for item in range(20, 28)]
    assert simulation.batcher.cap == 14


def test_want_of_memory_in_an_empty_batch_halves_the_cap() -> None:
    simulation = Simulation(regions=8)

    def hold(newcomers: Sequence[int]) -> None:
        if len(newcomers) > 4:
            raise DeviceMemoryError

    simulation.device.admit_hook = hold
    future = simulation.submit(*range(16))
    simulation.serve()
    assert simulation.whole == [list(range(8))] and simulation.batcher.cap == 4
    assert simulation.device.admissions == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert len(outputs(future)) == 16


def test_want_of_memory_in_a_step_lowers_the_cap_until_batches_succeed() -> None:
    simulation = Simulation(regions=8)

    def hold(items: Sequence[int]) -> None:
        if len(items) > 6:
            raise DeviceMemoryError

    simulation.step_hook = hold
    first = simulation.submit(*range(8))
    most: list[int] = []

    def lift() -> None:
        most.append(simulation.batcher.cap)
        simulation.step_hook = lambda items: None

    simulation.at[0] = lambda: simulation.submit(*range(100, 100 + 4 * PATIENCE + 20))
    simulation.at[1] = lift
    simulation.serve()
    assert outputs(first) == [item * 2 for item in range(8)]
    assert most == [4]
    assert simulation.batcher.cap == 8


def test_a_region_that_never_fits_lowers_no_cap_and_the_others_stay() -> None:
    simulation = Simulation()
    there = simulation.submit(*range(4))
    simulation.device.admit_hook = simulation.act = bad(40, error=DeviceMemoryError)
    later: list[Results] = []
    simulation.at[3] = lambda: later.append(simulation.submit(40, 50))
    simulation.serve()
    assert outputs(there) == [0, 3, 6, 9]
    results = later[0].result(0)
    assert isinstance(results[0].error, DeviceMemoryError) and results[1].output == 100
    assert simulation.whole == [[40, 50], [40], [50]] and simulation.batcher.cap == CAPACITY


def test_a_batch_that_fails_where_whole_batches_succeed_is_given_up() -> None:
    simulation = Simulation(regions=4)
    future = simulation.submit(*range(40))
    steps = [0]

    def fail(items: Sequence[int]) -> None:
        steps[0] += 1
        raise RuntimeError

    simulation.step_hook = fail
    simulation.serve()
    assert steps == [MOST_FAULTS]
    assert outputs(future) == [item * 2 for item in range(40)]


def test_a_bad_region_does_not_count_against_the_batch() -> None:
    simulation = Simulation()
    simulation.device.admit_hook = simulation.act = bad(40)
    futures = [simulation.submit(40, kind=WorkKind.DESCRIBE) for _ in range(2 * MOST_FAULTS)]
    good = simulation.submit(1)
    simulation.serve()
    assert outputs(good) == [3]
    assert all(isinstance(future.result(0)[0].error, ValueError) for future in futures)


def test_a_device_without_memory_for_one_region_is_left_to_the_device_thread() -> None:
    """It is run whole, where the device thread finds out whether anything fits."""
    simulation = Simulation()
    simulation.device.admit_hook = simulation.act = bad(1, error=DeviceMemoryError)
    future = simulation.submit(1)
    simulation.serve()
    assert isinstance(future.result(0)[0].error, DeviceMemoryError) and simulation.whole == [[1]]


@pytest.mark.parametrize("in_step", [False, True])
def test_a_lost_device_ends_the_loop(in_step: bool) -> None:
    simulation = Simulation(regions=1)
    futures = [simulation.submit(1), simulation.submit(2)]
    if in_step:
        simulation.step_hook = bad(1, error=DeviceLostError)
    else:
        simulation.device.admit_hook = bad(1, error=DeviceLostError)
    with pytest.raises(DeviceLostError):
        simulation.serve()
    assert all(isinstance(future.exception(0), ExecutorClosed) for future in futures)
    assert not simulation.whole and simulation.batcher.waiting == 0
    with pytest.raises(ExecutorClosed):
        simulation.batcher.reserve(1)


def test_closing_finishes_what_was_admitted() -> None:
    simulation = Simulation(regions=2)
    future = simulation.submit(1, 2, 3)
    reserved = simulation.batcher.reserve(1)
    late: list[Results] = []

    def close() -> None:
        simulation.batcher.close()
        with pytest.raises(ExecutorClosed):
            simulation.batcher.reserve(1)

    simulation.at[3] = close
    simulation.at[STEPS + 5] = lambda: late.append(reserved.submit([4]))
    simulation.serve()
    assert outputs(future) == [3, 6, 9] and outputs(late[0]) == [12]


def test_suspending_fails_everything_and_resuming_admits_again() -> None:
    simulation = Simulation(regions=2)
    future = simulation.submit(1, 2, 3)
    other = simulation.submit(4)
    after: list[Results] = []

    def suspend_and_resume() -> None:
        simulation.batcher.suspend()
        assert isinstance(future.exception(0), ExecutorClosed) and isinstance(other.exception(0), ExecutorClosed)
        with pytest.raises(ExecutorClosed):
            simulation.batcher.reserve(1)
        simulation.batcher.resume()
        after.append(simulation.submit(5))

    simulation.at[4] = suspend_and_resume
    simulation.serve()
    assert outputs(after[0]) == [15]
    assert simulation.device.admissions == [[1, 4], [5]]  # which found both places free
    assert len(simulation.device.rows) == 4 + 1 + STEPS


def test_throughput_is_that_of_completions() -> None:
    simulation = Simulation()
    assert simulation.batcher.throughput.seconds_for(10) == 1.0  # nothing is known yet
    simulation.submit(*range(10))
    simulation.serve()
    assert 0 < simulation.batcher.throughput.seconds_for(10) < 1.0


class Threaded:
    """A simulation whose loop runs in a thread and waits at a gate before each step."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.simulation.at[10**9] = lambda: None  # closed by hand
        self.gate, self.waiting = threading.Semaphore(0), threading.Semaphore(0)
        self.simulation.step_hook = self._wait
        self.thread = threading.Thread(target=self.simulation.serve, daemon=True)
        self.thread.start()

    def _wait(self, items: Sequence[int]) -> None:
        self.waiting.release()
        assert self.gate.acquire(timeout=WAIT_S)

    def end(self) -> None:
        self.simulation.batcher.close()
        self.gate.release(10_000)
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


def test_it_sleeps_while_nothing_is_there_and_wakes_for_a_lone_request() -> None:
    threaded = Threaded()
    batcher = threaded.simulation.batcher
    assert batcher.silent_s == 0 and batcher.running_ids is None
    threaded.gate.release(STEPS)
    reserved = batcher.reserve(5)  # it waits for nobody else's
    assert outputs_of(threaded.simulation.submit(7)) == [21]
    reserved.give_back()
    threaded.gate.release(STEPS)
    assert outputs_of(threaded.simulation.submit(8)) == [24]
    threaded.end()


def outputs_of(future: Results) -> list[int | None]:
    return [result.output for result in future.result(WAIT_S)]


def test_the_watchdog_sees_a_step_that_does_not_end() -> None:
    threaded = Threaded()
    batcher = threaded.simulation.batcher
    watchdog = Watchdog(batcher, stall_s=0.02, grace_s=WAIT_S)
    watcher = threading.Thread(target=watchdog.watch, args=(threaded.thread,), daemon=True)
    stuck = threaded.simulation.submit(1, 2)
    assert threaded.waiting.acquire(timeout=WAIT_S)
    watcher.start()
    assert isinstance(stuck.exception(WAIT_S), ExecutorClosed) and watchdog.stuck
    with pytest.raises(ExecutorClosed):
        batcher.reserve(1)
    threaded.gate.release(10_000)  # it answers again; nobody waits for those two
    until = time.monotonic() + WAIT_S
    while watchdog.stuck:
        assert time.monotonic() < until
        time.sleep(0.002)
    assert outputs_of(threaded.simulation.submit(3)) == [9]
    threaded.end()
    watcher.join(WAIT_S)


def test_a_client_that_leaves_and_a_close_during_a_step() -> None:
    threaded = Threaded()
    reservation, gone = threaded.simulation.reserve(1, 2)
    stays = threaded.simulation.submit(3)
    assert threaded.waiting.acquire(timeout=WAIT_S)
    with reservation:
        pass
    assert isinstance(gone.exception(0), StoppedError)
    threaded.end()
    assert outputs(stays) == [9]
    assert max(threaded.simulation.device.rows[1:]) == 1
