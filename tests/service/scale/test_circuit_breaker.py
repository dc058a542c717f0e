"""When a breaker lets calls through, and when it asks for a probe."""

import pytest

from dynrefer.service.scale.circuit_breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def closed(clock: Clock) -> CircuitBreaker:
    """One that has had successes enough to be trusted."""
    breaker = CircuitBreaker(clock)
    assert breaker.may_probe() and breaker.succeeded()
    for _ in range(30):
        assert not breaker.succeeded()
    return breaker


def test_it_begins_with_a_probe(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    assert not breaker.closed and breaker.may_probe() and not breaker.may_probe()
    assert breaker.succeeded() and breaker.closed and not breaker.may_probe()


def test_three_failures_in_a_row_open_it(clock: Clock) -> None:
    breaker = closed(clock)
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    assert not breaker.closed and not breaker.may_probe()
    clock.now += FIRST_PAUSE_S
    assert breaker.may_probe() and not breaker.closed


def test_one_failure_in_five_opens_it_and_one_in_twenty_does_not(clock: Clock) -> None:
    for every, stays in ((5, False), (20, True)):
        breaker = closed(clock)
        for call in range(1, 201):
            if breaker.closed:
                breaker.failed() if call % every == 0 else breaker.succeeded()
        assert breaker.closed == stays


def test_pauses_double_up_to_a_minute_and_begin_anew_once_it_is_trusted(clock: Clock) -> None:
    breaker, pauses = CircuitBreaker(clock), []
    for _ in range(9):
        while not breaker.may_probe():
            clock.now += 0.5
        breaker.failed()
        pauses.append(breaker.pause_s)
    assert pauses == [2, 4, 8, 16, 32, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    clock.now += LONGEST_PAUSE_S
    assert breaker.may_probe() and breaker.succeeded()
    assert breaker.failed() and not breaker.closed  # one is enough right behind a probe
    clock.now += LONGEST_PAUSE_S
    assert breaker.may_probe() and breaker.succeeded()
    for _ in range(30):
        breaker.succeeded()
    assert breaker.pause_s == FIRST_PAUSE_S


def test_a_late_failure_does_not_prolong_a_pause(clock: Clock) -> None:
    breaker = closed(clock)
    for _ in range(3):
        breaker.failed()
    assert not breaker.failed()
    clock.now += FIRST_PAUSE_S
    assert breaker.may_probe()
