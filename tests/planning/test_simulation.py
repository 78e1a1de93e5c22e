"""The simulation of workers, against a clock that ticks and against cases worked by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_distill.planning.simulation import (
    SLOWER,
    Luck,
    all_reduce,
    dispatch,
    disturbed,
    train,
)

parts = st.lists(st.integers(1, 20), max_size=30)
workers = st.integers(1, 12)


def tick(seconds: list[int], workers: int, startup: int) -> int:
    """Second by second: whoever has nothing to do takes the next part."""
    waiting, left, now = list(seconds), [0] * workers, startup
    while waiting or any(left):
        for worker in range(workers):
            if left[worker] == 0 and waiting:
                left[worker] = waiting.pop(0)
        left = [max(0, one - 1) for one in left]
        now += 1
    return now if seconds else 0


@given(parts, workers, st.integers(0, 5))
def test_without_trouble_it_is_what_a_ticking_clock_finds(
    seconds: list[int], workers: int, startup: int
) -> None:
    found = dispatch(seconds, workers, startup=startup)
    assert found.wall == tick(seconds, workers, startup) and found.lost == 0


@given(parts.filter(bool), workers)
def test_it_is_within_the_bounds_of_every_greedy_schedule(seconds: list[int], workers: int) -> None:
    wall, total, longest = dispatch(seconds, workers).wall, sum(seconds), max(seconds)
    assert wall >= longest and workers * wall >= total
    # Graham 1966: at most total / N + (1 - 1/N) · longest; times N, for whole numbers are exact
    assert workers * wall <= total + (workers - 1) * longest


def test_parts_worked_by_hand() -> None:
    # worker 1: 5; worker 2: 3, then 4 until 7; worker 1 takes 2 at 5, until 7, and 6 goes on to 13
    assert dispatch([5, 3, 4, 2, 6], 2, startup=1).wall == 1 + 13
    assert dispatch([5, 3, 4, 2, 6], 100, startup=1).wall == 1 + 6
    assert dispatch([], 3, startup=1).wall == 0


def scripted(**happens: tuple[float, float | None]) -> Luck:
    """What happens to attempts named as part1_attempt0; nothing to all others."""
    return lambda part, attempt: happens.get(f"part{part}_attempt{attempt}", (1.0, None))


def test_a_straggler_holds_up_its_own_worker_alone() -> None:
    luck = scripted(part0_attempt0=(3.0, None))
    # worker 1: part 0 until 12; worker 2: parts 1, 2 and 3 until 12
    assert dispatch([4, 4, 4, 4], 2, luck=luck).wall == 12
    assert dispatch([4, 4, 4], 2, luck=luck).wall == 12


def test_a_lost_part_is_the_next_to_be_sent_and_its_worker_starts_again() -> None:
    luck = scripted(part0_attempt0=(1.0, 0.5))
    # worker 1 loses part 0 at 5 and is back at 7, when part 0 is with nobody: it does it until 17.
    # worker 2: part 1 until 10, part 2 until 20
    found = dispatch([10, 10, 10], 2, restart=2, luck=luck)
    assert (found.wall, found.lost) == (20, 1)
    # with a third worker that has nothing to do, from 10 on: it lost nothing, and takes it over
    luck = scripted(part0_attempt0=(1.0, 0.8))
    # part 0 is lost at 16, worker 3 has been free since 5 and does it until 36
    found = dispatch([20, 20, 5], 3, restart=100, luck=luck)
    assert (found.wall, found.lost) == (36, 1)


def test_a_part_may_be_lost_again_and_again() -> None:
    luck = scripted(part0_attempt0=(1.0, 0.5), part0_attempt1=(2.0, 0.25))
    # lost at 5 and, twice as slow, after a quarter of 20; restarts of 1; then 10 seconds
    found = dispatch([10], 1, restart=1, luck=luck)
    assert (found.wall, found.lost) == (5 + 1 + 5 + 1 + 10, 2)


@given(parts, workers, st.integers(0, 9))
def test_what_happens_is_the_same_each_time_and_for_any_number_of_workers(
    seconds: list[int], workers: int, seed: int
) -> None:
    luck = disturbed(stragglers=0.3, failures=0.3, seed=seed)
    found = dispatch(seconds, workers, restart=3, luck=luck)
    assert found == dispatch(seconds, workers, restart=3, luck=luck)
    assert found.lost == dispatch(seconds, 1, luck=luck).lost
    factors = {luck(part, 0)[0] for part in range(len(seconds))}
    assert factors <= {1.0, SLOWER}


def test_rates_are_those_that_were_asked_for() -> None:
    luck = disturbed(stragglers=0.2, failures=0.1, seed=1)
    outcomes = [luck(part, attempt) for part in range(2500) for attempt in range(4)]
    slow = sum(factor == SLOWER for factor, _ in outcomes)
    gone = [share for _, share in outcomes if share is not None]
    # 10,000 draws: five standard deviations are 200 and 150
    assert abs(slow - 2000) < 200 and abs(len(gone) - 1000) < 150
    assert all(0 <= share < 1 for share in gone)
    assert disturbed(stragglers=0, failures=0, seed=1)(0, 0) == (1.0, None)
    assert disturbed(stragglers=1, failures=0, seed=1)(0, 0) == (SLOWER, None)


def test_a_training_worked_by_hand() -> None:
    # 100 steps, 800 s of compute among 8, and 0.5 + 0.25 s in each step that are not shared
    assert train(100, 800, 8, update=0.5, exchange=0.25) == 100 + 75


@pytest.mark.parametrize(("processes", "sent"), [(1, 0), (2, 1), (4, 1.5), (8, 1.75)])
def test_a_ring_sends_all_but_a_share_twice(processes: int, sent: float) -> None:
    assert math.isclose(all_reduce(1e9, processes, 1e9), sent)
