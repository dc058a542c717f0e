"""Where calls go, and which are made again: an edge's board, calls and executor, with replicas of this process."""

import asyncio
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError

from dynrefer.model import ModelCard
from dynrefer.model.errors import DeviceError, ModelError, ModelNotFoundError, StoppedError
from dynrefer.service.engine.executor import ExecutorCounts, Phase, watch_executor
from dynrefer.service.engine.reservations import ExecutorClosed, Part, QueuedRequest, RegionResult, WorkKind
from dynrefer.service.errors import DeadlineExceeded, QueueFullError
from dynrefer.service.observability.metrics import Metrics, SharedCacheCounts
from dynrefer.service.scale.ray import board as boards
from dynrefer.service.scale.ray.application import Edge
from dynrefer.service.scale.ray.autoscaling import wanted_replicas
from dynrefer.service.scale.ray.board import Board, Sent
from dynrefer.service.scale.ray.edges import FORGET_S, Edges
from dynrefer.service.scale.ray.executor import ReplicaExecutor
from dynrefer.service.scale.ray.messages import TURN_REGIONS, Call, EdgeState, ReplicaModel, ReplicaState, Reply
from dynrefer.service.scale.ray.totals import Totals
from dynrefer.service.settings import Settings
from tests.fakes import CARD, context_of

WAIT_S = 20.0

# What a replica does with a call: its reply, or an exception.
Does = Callable[[Call, Any], Any]


def doubled(call: Call, items: list[Any]) -> Reply:
    return Reply([RegionResult(2 * item, None, 0.0, 1) for item in items])


def dies(call: Call, items: list[Any]) -> Reply:
    raise ActorDiedError


@dataclass
class Method:
    """`handle.METHOD` of Serve."""

    make: Callable[..., Any]

    def remote(self, *arguments: Any, **named: Any) -> "Answer":
        return Answer(self.make(*arguments, **named))


class Answer:
    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def cancel(self) -> None:
        pass

    def __await__(self) -> Any:
        return self._coroutine.__await__()


@dataclass
class Replicas:
    """`executor.Replicas`, and Serve's handle and router in one. does: replica -> what it does with a call."""

    name: str
    does: dict[str, Does]
    cap: int = 4
    waiting: int = 0
    of_another_edge: int = 0
    edges: Edges = field(default_factory=Edges)
    failure: ModelError | None = None
    alive: bool = True
    card: ModelCard = CARD
    version: str = ""
    there: str = ""  # the version that replicas are of
    models: dict[str, str] = field(default_factory=dict)  # by replica: the identity of its model
    phases: dict[str, Phase] = field(default_factory=dict)
    seen: list[tuple[str, Call, Any]] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    looking: threading.Event = field(default_factory=threading.Event)
    ended: bool = False

    def begin(self) -> "Replicas":
        if self.failure is not None:
            raise self.failure
        boards.board_of(self.name).update(self.does)
        return self

    def end(self) -> None:
        self.ended = True

    def hand_over(self, items: list[Any]) -> list[Any]:
        return items

    @property
    def model(self) -> Method:
        async def model(version: str) -> ReplicaModel | None:
            if version != self.there:
                return None
            return ReplicaModel(self.card, None, None, None, None, "the model")  # type: ignore[arg-type]

        return Method(model)

    @property
    def look_again(self) -> Method:
        async def look_again(*_: Any) -> None:
            self.looking.set()
            await asyncio.sleep(10 * WAIT_S)

        return Method(look_again)

    @property
    def state(self) -> Method:
        async def state(since: int, edge: EdgeState, to: str) -> ReplicaState:
            if to not in self.does:
                raise ActorDiedError
            self.asked[to] += 1
            if self.does[to] is hangs:
                await asyncio.sleep(WAIT_S)
            if to in self.faulty:
                raise RuntimeError("dictionary changed size during iteration")
            counts = ExecutorCounts(waiting=self.waiting, cap=self.cap, regions_per_s=10.0, caches={"views": (1, 2)})
            self.edges.heard(EdgeState("another", self.of_another_edge))
            of_others = self.edges.heard(edge)
            model = self.models.get(to, "the model")
            return ReplicaState(self.phases.get(to, Phase.READY), counts, of_other_edges=of_others, model=model)

        return Method(state)

    @property
    def run(self) -> Method:
        async def run(call: Call, items: Any) -> Any:
            board = boards.board_of(self.name)
            while (name := board.route(call.id, list(board.replicas))) is None:
                await asyncio.sleep(0.01)
            self.seen.append((name, call, items))
            found = self.does[name](call, items)
            return await found if asyncio.iscoroutine(found) else found

        return Method(run)


async def _forever() -> Reply:
    await asyncio.sleep(10 * WAIT_S)
    raise AssertionError


def never_ends(call: Call, items: list[Any]) -> Any:
    """The replica answers, and goes on with the call."""
    return _forever()


def hangs(call: Call, items: list[Any]) -> Any:
    """The replica answers nothing any more."""
    return _forever()


def started(replicas: Replicas, **settings: Any) -> ReplicaExecutor:
    executor = ReplicaExecutor(Settings(engine="ray", **settings), replicas, Metrics())
    executor.start(lambda: None)
    until(lambda: executor.phase is not Phase.LOADING)
    return executor


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def submitted(executor: ReplicaExecutor, items: list[int], **context: Any) -> list[Any]:
    """Their outputs, or what became of each instead."""
    with executor.reserve(len(items), context_of(**context)) as reservation:
        future: Future[list[RegionResult[Any]]] = reservation.submit(items, WorkKind.DESCRIBE)
        return [each.output if each.error is None else each.error for each in future.result(WAIT_S)]


def test_the_replica_with_the_fewest_regions_is_next_and_a_silent_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    board.update(["a", "b", "c"])
    board.calls |= {"1": Sent(5, "a"), "2": Sent(1, "b"), "3": Sent(9)}
    assert board.order(["a", "b", "c"]) == ["c", "b", "a"]
    board.calls["4"] = Sent(7, "c")
    assert board.order(["a", "b", "c"]) == ["b", "a", "c"]
    board.replicas["b"].answered_at -= boards.SILENT_S + 1
    assert board.order(["a", "b", "c"]) == ["a", "c"] and board.is_silent("b")
    assert {tuple(Board(board.replicas).order(["a", "c"])) for _ in range(50)} == {("a", "c"), ("c", "a")}
    board.update(["b", "c"])
    assert board.is_silent("b"), "an update tells nothing of those that were there"


def test_replicas_that_are_not_ready_are_last_and_so_are_those_that_refused_a_call() -> None:
    board = Board()
    board.update(["new", "ready", "starved"])
    board.calls |= {"1": Sent(9, "ready")}
    board.answered("ready", ReplicaState(Phase.READY, ExecutorCounts()))
    board.answered("starved", ReplicaState(Phase.STARVED, ExecutorCounts()))
    assert board.order(["starved", "new", "ready"]) == ["ready", "new", "starved"]
    assert board.order(["starved", "new", "ready"], {"ready"}) == ["new", "starved", "ready"]
    board.calls["2"] = Sent(1, avoid={"ready", "new"})
    assert board.route("2", ["starved", "new", "ready", "gone"]) == "starved" == board.calls["2"].replica
    assert board.route("2", ["gone"]) is None


def test_what_is_asked_about_an_image_goes_where_that_was_seen_before() -> None:
    board = Board()
    board.update(["a", "b", "c"])
    board.calls["1"] = Sent(TURN_REGIONS, image=b"cat")
    first = board.route("1", ["a", "b", "c"])
    assert first is not None
    del board.calls["1"]
    board.calls["2"] = Sent(1, first)  # so each of the others has less to do
    for number in range(20):
        board.calls["next"] = Sent(TURN_REGIONS, image=b"cat")
        assert board.route("next", ["a", "b", "c"]) == first
        del board.calls["next"]
        board.calls["other"] = Sent(TURN_REGIONS, image=b"dog %d" % number)
        assert board.route("other", ["a", "b", "c"]) != first
        del board.calls["other"]


def test_a_replica_is_preferred_while_it_has_no_more_than_one_batch_beyond_the_least() -> None:
    board = Board()
    board.update(["a", "b"])
    for name in ("a", "b"):
        board.answered(name, ReplicaState(Phase.READY, ExecutorCounts(cap=8)))
    board.calls |= {"1": Sent(10, "a"), "2": Sent(2, "b")}
    assert board.order(["a", "b"]) == ["b", "a"]
    assert board.order(["a", "b"], prefer="a") == ["a", "b"]
    board.calls["1"].regions = 11
    assert board.order(["a", "b"], prefer="a") == ["b", "a"]
    board.calls["1"].regions = 0
    assert board.order(["a", "b"], {"a"}, prefer="a") == ["b", "a"]
    assert board.order(["b"], prefer="a") == ["b"], "it is gone, or is to end"
    board.answered("a", ReplicaState(Phase.STARVED, ExecutorCounts(cap=8)))
    assert board.order(["a", "b"], prefer="a") == ["b", "a"]
    board.replicas["a"].answered_at -= boards.SILENT_S + 1
    assert board.order(["a", "b"], prefer="a") == ["b"]


def test_an_image_that_went_elsewhere_is_looked_for_there_and_few_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Board()
    board.update(["a", "b"])

    def routed(image: bytes, avoid: Collection[str] = ()) -> str | None:
        board.calls["call"] = Sent(1, avoid=avoid, image=image)
        return board.route("call", ["a", "b"])

    assert routed(b"cat", {"a"}) == "b"
    assert routed(b"cat", {"b"}) == "a", "b did not take it"
    assert {routed(b"cat") for _ in range(20)} == {"a"}
    monkeypatch.setattr(boards, "MOST_IMAGES", 2)
    for image in (b"dog", b"cat", b"bird"):
        routed(image, {"b"})
    assert set(board._asked) == {b"cat", b"bird"}


def test_a_replica_that_refuses_everything_attracts_nothing() -> None:
    def refuses(call: Call, items: list[Any]) -> Reply:
        return Reply(None, "the replica is waiting for its device to have memory again")

    replicas = Replicas("hole", {"a": doubled, "b": refuses}, phases={"b": Phase.STARVED})
    executor = started(replicas)
    until(lambda: len(boards.board_of("hole").states) == 2)
    assert [submitted(executor, [each]) for each in range(20)] == [[2 * each] for each in range(20)]
    assert {name for name, _, _ in replicas.seen} == {"a"}

    replicas.phases = {}  # it says that it is ready, and refuses all the same: once for each call
    until(lambda: all(each.phase is Phase.READY for each in boards.board_of("hole").states))
    assert [submitted(executor, [each]) for each in range(10)] == [[2 * each] for each in range(10)]
    tries = Counter(call.request_id + str(items) for name, call, items in replicas.seen if name == "b")
    assert not tries or max(tries.values()) == 1


def test_large_requests_are_shared_in_parts_of_a_batch_and_keep_their_order() -> None:
    replicas = Replicas("shared", {"a": doubled, "b": doubled})
    assert submitted(started(replicas), list(range(10))) == [2 * each for each in range(10)]
    assert sorted(len(items) for _, _, items in replicas.seen) == [2, 4, 4]
    assert {call.request_id for _, call, _ in replicas.seen} == {context_of().id}
    assert all(call.model == "the model" and call.left_s is not None for _, call, _ in replicas.seen)


def test_a_call_whose_replica_dies_is_made_on_another_one() -> None:
    replicas = Replicas("dies", {"a": dies, "b": doubled})
    executor = started(replicas)

    def gone(call: Call, items: list[Any]) -> Reply:
        boards.board_of("dies").update(["b"])
        raise ActorDiedError

    replicas.does["a"] = gone
    assert submitted(executor, [1, 2]) == [2, 4]
    assert submitted(executor, [3]) == [6]


def test_regions_that_several_replicas_die_of_fail_alone() -> None:
    replicas = Replicas("poison", {"a": dies})
    found = submitted(started(replicas), [1])
    assert isinstance(found[0], DeviceError) and len(replicas.seen) == 3


def test_a_call_with_a_replica_that_hangs_is_made_on_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "SILENT_S", 1.5)
    replicas = Replicas("hangs", {"a": doubled, "b": doubled})
    executor = started(replicas)
    until(lambda: all(each.state is not None for each in boards.board_of("hangs").replicas.values()))
    replicas.does["a"] = hangs
    assert submitted(executor, [1] * 8) == [2] * 8
    assert "a" in {name for name, _, _ in replicas.seen}
    assert executor.phase is Phase.READY


def test_a_new_replica_that_hangs_keeps_no_other_from_being_heard() -> None:
    replicas = Replicas("newcomer", {"a": doubled, "b": hangs})
    executor = started(replicas)
    until(lambda: replicas.asked["a"] >= 3)
    assert replicas.asked["b"] == 1, "b has not been given up as silent yet"
    assert executor.phase is Phase.READY and submitted(executor, [1]) == [2]


def test_what_one_replica_raises_when_it_is_asked_is_its_own_affair() -> None:
    replicas = Replicas("faulty", {"a": doubled, "b": doubled}, faulty={"b"})
    executor = started(replicas)
    until(lambda: replicas.asked["b"] >= 2)
    assert executor.phase is Phase.READY and not executor.lost
    assert submitted(executor, [1]) == [2]


def test_a_replica_that_serve_ends_finishes_its_calls() -> None:
    finished = asyncio.Event()

    async def last_one(call: Call, items: list[Any]) -> Reply:
        await finished.wait()
        return doubled(call, items)

    replicas = Replicas("draining", {"a": last_one})
    executor = started(replicas)
    with executor.reserve(1, context_of()) as reservation:
        future = reservation.submit([1])
        until(lambda: len(replicas.seen) == 1)
        replicas.does["b"] = doubled
        boards.board_of("draining").update(["b"])
        until(lambda: replicas.asked["b"] >= 3)
        executor._loop.call_soon_threadsafe(finished.set)
        assert future.result(WAIT_S)[0].output == 2
    assert [name for name, _, _ in replicas.seen] == ["a"]


def test_what_a_replica_does_not_take_is_offered_again() -> None:
    refusals = iter([Reply(None, "the replica's queue is full"), Reply(None, "another model")])

    def refuses_twice(call: Call, items: list[Any]) -> Reply:
        return next(refusals, None) or doubled(call, items)

    assert submitted(started(Replicas("refuses", {"a": refuses_twice})), [4]) == [8]


def test_where_serve_has_no_replica_a_call_is_made_again_until_the_deadline() -> None:
    failures = [DeploymentUnavailableError(DeploymentID("model", "unavailable")) for _ in range(4)]

    def refuses(call: Call, items: list[Any]) -> Reply:
        if failures:
            raise failures.pop()
        return doubled(call, items)

    assert submitted(started(Replicas("unavailable", {"a": refuses})), [4]) == [8]


def test_past_the_deadline_a_request_fails_and_its_room_is_free_again() -> None:
    executor = started(Replicas("late", {"a": never_ends}), max_regions=4, max_queue_regions=4)
    with pytest.raises(DeadlineExceeded):
        submitted(executor, [1, 2], timeout_s=0.2)
    until(lambda: executor.counts.waiting == 0)


def test_the_queue_is_as_long_as_those_of_all_replicas_and_says_when_to_come_again() -> None:
    executor = started(Replicas("full", {"a": never_ends, "b": never_ends}), max_regions=8, max_queue_regions=8)
    with executor.reserve(16, context_of()), pytest.raises(QueueFullError) as refused:
        executor.reserve(20, context_of())
    assert refused.value.retry_after_s == 1 and refused.value.reason == "queue_full"
    with executor.reserve(16, context_of()):
        pass
    until(lambda: executor.counts.waiting == 0)


def test_regions_of_other_edges_count_towards_the_queue() -> None:
    executor = started(Replicas("edges", {"a": doubled}, of_another_edge=6), max_regions=8, max_queue_regions=8)
    with pytest.raises(QueueFullError):
        executor.reserve(3, context_of())
    with executor.reserve(2, context_of()):
        pass


def test_an_edge_s_own_regions_count_once_however_old_what_replicas_say_is() -> None:
    executor = started(Replicas("own", {"a": doubled}, waiting=8), max_regions=8, max_queue_regions=8)
    with executor.reserve(8, context_of()):
        pass


def test_replicas_tell_every_edge_what_the_others_have_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = Edges()
    assert edges.heard(None) == 0
    assert edges.heard(EdgeState("one", 5)) == 0
    assert edges.heard(EdgeState("two", 7)) == 5
    assert edges.heard(EdgeState("one", 6)) == 7
    assert edges.heard(EdgeState("three", 0)) == 13
    now = time.monotonic()
    monkeypatch.setattr("dynrefer.service.scale.ray.edges.time.monotonic", lambda: now + FORGET_S + 1)
    assert edges.heard(EdgeState("two", 1)) == 0


def test_many_replicas_are_asked_less_often() -> None:
    board = Board()
    board.update(map(str, range(10)))
    assert board.ask_every_s == 1.0
    board.update(map(str, range(200)))
    assert board.ask_every_s == pytest.approx(4.0)
    for seen in board.replicas.values():
        seen.answered_at -= 15
    assert not board.is_silent("0")


def test_one_key_has_its_share_of_the_queue() -> None:
    executor = started(Replicas("keys", {"a": never_ends}), max_regions=8, max_key_regions=8)
    with executor.reserve(8, context_of(caller="busy")), pytest.raises(QueueFullError) as refused:
        executor.reserve(1, context_of(caller="busy"))
    assert refused.value.reason == "key_share"
    with executor.reserve(8, context_of(caller="other")):
        pass


def test_the_share_of_one_key_grows_with_the_replicas_unless_it_is_set(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_regions": 8, "max_queue_regions": 8, "api_keys_file": tmp_path / "keys"}
    for name, share in [("half", 16), ("set", 8)]:
        replicas = Replicas(name, {each: never_ends for each in "abcd"})
        executor = started(replicas, **settings, max_key_regions=0 if name == "half" else 8)
        with executor.reserve(share, context_of(caller="busy")), pytest.raises(QueueFullError) as refused:
            executor.reserve(1, context_of(caller="busy"))
        assert refused.value.reason == "key_share"


def test_counters_of_replicas_never_fall() -> None:
    replicas = Replicas("counters", {"a": doubled, "b": doubled})
    executor = started(replicas)
    until(lambda: executor.counts.caches == {"views": (2, 4)})
    board = boards.board_of("counters")
    board.replicas["a"].answered_at -= boards.SILENT_S + 1
    replicas.does["a"] = hangs
    assert executor.counts.caches == {"views": (2, 4)}
    replicas.does["c"] = doubled
    board.update(["b", "c"])
    assert executor.counts.caches == {"views": (2, 4)}
    until(lambda: executor.counts.caches == {"views": (3, 6)})
    assert executor.counts.cap == 8, "what is now is of those that answer"


def test_totals_are_of_everything_that_is_counted() -> None:
    one = Totals({"views": (1, 2)}, {"captured": 3}, SharedCacheCounts(written=4, reading=True))
    two = Totals({"views": (10, 20), "words": (5, 5)}, {"eager": 1}, SharedCacheCounts(written=40, dropped=1))
    both = one + two
    assert both.caches == {"views": (11, 22), "words": (5, 5)} and both.graphs == {"captured": 3, "eager": 1}
    assert both.shared_cache == SharedCacheCounts(written=44, dropped=1)


def test_leaving_a_reservation_lets_go_of_what_was_submitted() -> None:
    executor = started(Replicas("left", {"a": never_ends}))
    with executor.reserve(3, context_of()) as reservation:
        future = reservation.submit([1, 2])
    with pytest.raises(StoppedError):
        future.result(WAIT_S)
    until(lambda: executor.counts.waiting == 0)


class Prepared:
    """What is submitted: weakly referenced, so that one sees when nobody holds it any more."""


def raises(call: Call, items: list[Any]) -> Reply:
    raise RuntimeError("a fault of the replica's own")


def refuses(call: Call, items: list[Any]) -> Reply:
    return Reply(None, "the replica's queue is full")


def fails_alone(call: Call, items: list[Any]) -> Reply:
    raise ModelError("these regions cannot be described.")


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (dies, None),
        (raises, RuntimeError),
        (fails_alone, None),
        (never_ends, DeadlineExceeded),
        (refuses, DeadlineExceeded),
    ],
    ids=["dies", "raises", "fails alone", "late", "refused"],
)
def test_what_fails_is_let_go_of_without_the_garbage_collector(
    does: Does, expected: type[Exception] | None, uncollected: None
) -> None:
    replicas = Replicas(f"let go {does.__name__}", {"a": does})
    executor = started(replicas)
    timeout_s = 0.5 if expected is DeadlineExceeded else 60.0

    async def request(items: list[Prepared]) -> None:
        with executor.reserve(len(items), context_of(timeout_s=timeout_s)) as reservation:
            results = await asyncio.wrap_future(reservation.submit(items))
            assert expected is None and all(isinstance(each.error, ModelError) for each in results)

    async def failing() -> list["weakref.ref[Prepared]"]:
        items = [Prepared(), Prepared()]
        with nullcontext() if expected is None else pytest.raises(expected):
            await request(items)
        replicas.seen.clear()
        return [weakref.ref(each) for each in items]

    left = asyncio.run(failing())
    until(lambda: not any(each() for each in left))


def test_what_is_cancelled_is_let_go_of_without_the_garbage_collector(uncollected: None) -> None:
    replicas = Replicas("let go cancelled", {"a": never_ends})
    executor = started(replicas)

    async def request(items: list[Prepared]) -> None:
        with executor.reserve(len(items), context_of()) as reservation:
            await asyncio.wrap_future(reservation.submit(items))

    async def departing() -> list["weakref.ref[Prepared]"]:
        items = [Prepared(), Prepared()]
        task = asyncio.create_task(request(items))
        while not replicas.seen:
            await asyncio.sleep(0.01)
        replicas.seen.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [weakref.ref(each) for each in items]

    left = asyncio.run(departing())
    until(lambda: not any(each() for each in left))


def test_what_is_admitted_is_run_before_the_replicas_end() -> None:
    async def slowly(call: Call, items: list[Any]) -> Reply:
        await asyncio.sleep(0.3)
        return doubled(call, items)

    replicas = Replicas("closed", {"a": slowly})
    executor = started(replicas)
    with executor.reserve(1, context_of()) as reservation:
        executor.close()
        with pytest.raises(ExecutorClosed):
            executor.reserve(1, context_of())
        assert reservation.submit([1]).result(WAIT_S)[0].output == 2
        assert not replicas.ended
    until(lambda: executor.phase is Phase.LOST)
    assert replicas.ended and not executor.lost


def test_a_model_that_cannot_be_loaded_and_a_cluster_that_is_lost_are_told() -> None:
    lost: list[bool] = []
    executor = ReplicaExecutor(
        Settings(engine="ray"), Replicas("nowhere", {}, failure=ModelNotFoundError("no model.")), Metrics()
    )
    executor.start(lambda: lost.append(True))
    until(lambda: executor.phase is Phase.LOST)
    assert str(executor.failure) == "no model." and executor.lost
    until(lambda: lost == [True])

    replicas = Replicas("lost", {"a": doubled})
    executor = started(replicas)
    replicas.alive = False
    until(lambda: executor.lost)
    with pytest.raises(ExecutorClosed):
        executor.reserve(1, context_of())


def test_a_thread_that_waits_for_a_replica_goes_on_when_the_cluster_is_lost() -> None:
    replicas = Replicas("look", {"a": doubled})
    executor = started(replicas)
    raised: list[BaseException] = []

    def look() -> None:
        try:
            executor.predictor.look_again(None, None)  # type: ignore[union-attr, arg-type]
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    assert replicas.looking.wait(WAIT_S)
    replicas.alive = False
    thread.join(WAIT_S)
    assert [type(each) for each in raised] == [ExecutorClosed]
    with pytest.raises(ExecutorClosed):
        executor.predictor.look_again(None, None)  # type: ignore[union-attr, arg-type]
    until(executor._loop.is_closed)
    executor.cancel(QueuedRequest(0))


def test_a_request_may_be_cancelled_at_the_moment_of_its_answer() -> None:
    """The future's checks and its setting are one step: two threads do both."""
    executor = started(Replicas("moment", {"a": never_ends}))
    request: QueuedRequest[int, int] = QueuedRequest(1)
    part: Part[int, int] = Part(request, WorkKind.DESCRIBE, 1, 0.0)
    request.parts.append(part)

    class Slow(Future):  # type: ignore[type-arg]
        def done(self) -> bool:
            found = super().done()
            time.sleep(0.1)
            return found

    future = part.future = Slow()
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(executor.cancel, request)
        executor._record(part, 0, RegionResult(1, None, 0.0, 0))
        cancelling.result(WAIT_S)  # raises what either did
    assert future.done()


def test_an_edge_takes_its_model_from_replicas_of_its_own_version_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynrefer.service.scale.ray.executor.START_WITHIN_S", (0.05,))
    monkeypatch.setattr("dynrefer.service.scale.ray.executor.ASK_EVERY_S", 0.05)
    replicas = Replicas("versions", {"a": doubled}, version="new", there="old")
    executor = ReplicaExecutor(Settings(engine="ray"), replicas, Metrics())
    executor.start(lambda: None)
    time.sleep(0.5)
    assert executor.phase is Phase.LOADING
    replicas.there = "new"
    until(lambda: executor.phase is Phase.READY)

    replicas = Replicas("never", {"a": doubled}, version="new", there="old")
    executor = ReplicaExecutor(Settings(engine="ray"), replicas, Metrics())
    executor.start(lambda: None)
    until(lambda: "never" in boards._boards)
    executor.close()
    until(lambda: executor.phase is Phase.LOST)
    assert replicas.ended and not executor.lost


def test_regions_go_to_replicas_with_the_model_that_they_were_prepared_for() -> None:
    replicas = Replicas("mixed", {"a": doubled, "b": dies}, models={"b": "another"})
    executor = started(replicas, max_regions=4, max_queue_regions=4)
    until(lambda: len(replicas.asked) == 2 and boards.board_of("mixed").replicas["b"].state is not None)
    assert [submitted(executor, [each]) for each in range(10)] == [[2 * each] for each in range(10)]
    with pytest.raises(QueueFullError):
        executor.reserve(5, context_of())
    assert executor.counts.replicas == {"answering": 2, "silent": 0}


def test_an_edge_whose_replicas_all_have_another_model_is_lost_once_they_have_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynrefer.service.scale.ray.executor.SILENT_S", 0.1)
    finished = asyncio.Event()

    async def last_one(call: Call, items: list[Any]) -> Reply:
        await finished.wait()
        return doubled(call, items)

    lost: list[bool] = []
    replicas = Replicas("superseded", {"a": last_one, "b": dies}, models={"b": "another"})
    executor = ReplicaExecutor(Settings(engine="ray"), replicas, Metrics())
    executor.start(lambda: lost.append(True))
    until(lambda: executor.phase is Phase.READY)
    with executor.reserve(1, context_of()) as reservation:
        future = reservation.submit([1])
        until(lambda: len(replicas.seen) == 1)
        boards.board_of("superseded").update(["b"])
        until(lambda: executor.phase is Phase.STUCK)
        asked = replicas.asked["b"]
        until(lambda: replicas.asked["b"] >= asked + 2)
        with pytest.raises(ExecutorClosed):
            executor.reserve(1, context_of())
        assert not lost
        executor._loop.call_soon_threadsafe(finished.set)
        assert future.result(WAIT_S)[0].output == 2
    until(lambda: lost == [True])
    assert executor.lost


def test_an_edge_of_serve_is_sent_nothing_before_its_model_is_there_and_is_replaced_once_that_is_lost() -> None:
    class Handle:
        app_name = "edge"

    async def check() -> None:
        edge = Edge({"engine": "ray", "worker_processes": 0}, Handle(), "version")
        app = edge.__serve_build_asgi_app__()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(edge.check_health(), 0.2)
        executor = app.state.engine.serving.executor
        executor.predictor = object()
        await asyncio.wait_for(edge.check_health(), WAIT_S)
        executor.predictor = None  # an administrator's model instead of it is being loaded
        await asyncio.wait_for(edge.check_health(), WAIT_S)
        executor.lost = True
        with pytest.raises(ModelError):
            await edge.check_health()

    asyncio.run(check())


def test_without_a_ready_replica_nothing_is_admitted() -> None:
    replicas = Replicas("stuck", {"a": doubled}, phases={"a": Phase.STUCK})
    executor = started(replicas)
    assert executor.phase is Phase.STUCK
    with pytest.raises(ExecutorClosed):
        executor.reserve(1, context_of())
    replicas.phases = {}
    until(lambda: executor.phase is Phase.READY)
    assert executor.counts.caches == {"views": (1, 2)} and executor.counts.model == (CARD.name, CARD.revision)


def test_replicas_in_the_metrics_are_those_of_the_model_that_serves() -> None:
    metrics = Metrics()
    serving = started(Replicas("serving", {"a": doubled}))
    watch_executor(metrics, lambda: serving.counts)
    ReplicaExecutor(
        Settings(engine="ray"), Replicas("beside", {}, failure=ModelNotFoundError("no model.")), metrics
    ).start(lambda: None)
    assert serving.counts.replicas == {"answering": 1, "silent": 0}
    assert metrics.registry.get_sample_value("dynrefer_replicas", {"state": "answering"}) == 1


def test_replicas_follow_the_regions() -> None:
    assert [wanted_replicas(regions, 32) for regions in (0, 1, 32, 33, 320)] == [1, 1, 1, 2, 10]
