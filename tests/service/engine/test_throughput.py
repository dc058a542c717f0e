"""What the device manages, by whole batches and by turnover."""

from dynrefer.service.engine.throughput import PATIENCE, ThroughputEstimator, Turnover


def test_a_turnover_is_as_many_completions_as_there_were_regions_at_a_time() -> None:
    throughput, turnover = ThroughputEstimator(16), Turnover()
    turnover.joined(4, now=100.0)
    turnover.left(1, 3, 101.0, 16, throughput)
    turnover.joined(8, now=101.0)  # five more
    turnover.left(3, 5, 102.0, 16, throughput)
    assert throughput.seconds_for(4) == 1.0  # four of eight: nothing is known yet
    turnover.left(4, 1, 104.0, 16, throughput)
    assert throughput.seconds_for(4) == 2.0  # eight in four seconds
    turnover.left(1, 0, 104.5, 16, throughput)  # the last one: two regions per second too
    assert throughput.seconds_for(4) == 2.0
    turnover.joined(1, now=200.0)  # what was idle does not count
    turnover.left(1, 0, 200.5, 16, throughput)
    assert throughput.seconds_for(4) == 2.0


def test_regions_that_nobody_waits_for_are_no_turnover() -> None:
    throughput, turnover = ThroughputEstimator(16), Turnover()
    turnover.joined(4, now=100.0)
    turnover.left(0, 0, 105.0, 16, throughput)
    assert throughput.seconds_for(7) == 1.0
    turnover.joined(1, now=200.0)
    turnover.left(1, 0, 200.5, 16, throughput)
    assert throughput.seconds_for(4) == 2.0


def test_a_lowered_cap_is_doubled_after_many_full_turnovers() -> None:
    throughput, turnover = ThroughputEstimator(16), Turnover()
    throughput.lower_cap(8)
    for _ in range(PATIENCE):
        turnover.joined(6, now=0.0)
        turnover.left(6, 0, 1.0, 7, throughput)
    assert throughput.cap == 8  # none was full
    for _ in range(PATIENCE):
        turnover.joined(7, now=0.0)
        turnover.left(7, 0, 1.0, 7, throughput)
    assert throughput.cap == 16
