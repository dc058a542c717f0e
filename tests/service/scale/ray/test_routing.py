"""Where calls go, and which are made again: an edge's board, calls and executor, with replicas of this process."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError

from dynrefer.model.errors import DeviceError
from dynrefer.service.engine.executor import ExecutorCounts, Phase
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.errors import DeadlineExceeded, QueueFullError
from dynrefer.service.observability.metrics import SharedCacheCounts
from dynrefer.service.scale.ray import board as boards
from dynrefer.service.scale.ray.board import Board, Sent
from dynrefer.service.scale.ray.edges import FORGET_S, Edges
from dynrefer.service.scale.ray.messages import TURN_REGIONS, Call, EdgeState, ReplicaState, Reply
from dynrefer.service.scale.ray.totals import Totals
from tests.fakes import context_of
from tests.service.scale.ray.replicas_here import (
    WAIT_S,
    Replicas,
    dies,
    doubled,
    hangs,
    never_ends,
    started,
    submitted,
    until,
)


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
