"""Open parts: whatever workers do, each part comes once, and what is lost is sent again."""

from collections.abc import Sequence
from typing import Any

import pytest

from warmup_distill.cluster import parts as parts_module
from warmup_distill.cluster.parts import SLOW, Lost, News, OpenParts
from warmup_distill.cluster.remote import Done, Heard, Refused
from warmup_distill.cluster.saying import Speaker
from warmup_distill.errors import DataError, RunError
from warmup_distill.store.stopping import Stopped

BEAT = 2.0


class Counts:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.advanced = self.settled = 0

    def advance(self, tokens: int) -> None:
        self.advanced += tokens

    def settle(self, tokens: int) -> None:
        self.settled += tokens


class Script:
    """A link whose workers do what is written down, on a clock of their own.

    Args:
        attempts: for each part, what becomes of its first attempt, of its second, and so on: for
            how many seconds it gives a sign every other second, and what comes then. None is
            silence for ever.
    """

    def __init__(self, attempts: dict[int, list[tuple[float, News | None]]]) -> None:
        self.attempts = attempts
        self.time = 0.0
        self.sent: list[int] = []
        self.cancelled: list[int] = []
        self._open: dict[int, tuple[float, float, float, News | None]] = {}

    def clock(self) -> float:
        return self.time

    def send(self, number: int) -> int:
        nth = self.sent.count(number)
        planned = self.attempts.get(number, [])
        lasts, end = planned[nth] if nth < len(planned) else (BEAT, Done(result=number * 10))
        self.sent.append(number)
        self._open[len(self.sent)] = (self.time, self.time, lasts, end)
        return len(self.sent)

    def news(self, attempts: Sequence[int], timeout: float) -> list[tuple[int, News]]:
        self.time += timeout
        found: list[tuple[int, News]] = []
        for attempt in attempts:
            began, heard, lasts, end = self._open[attempt]
            if self.time - began >= lasts:
                found += [(attempt, end)] if end is not None else []
            elif self.time - heard >= BEAT:
                self._open[attempt] = (began, self.time, lasts, end)
                found.append((attempt, Heard(advanced=5, settled=1)))
        return found

    def cancel(self, attempt: int) -> None:
        self.cancelled.append(attempt)


def open_parts(script: Script, **settings: Any) -> OpenParts:
    return OpenParts(link=script, clock=script.clock, speaker=Speaker(), **settings)


def all_of(script: Script, count: int, meter: Any = None, **settings: Any) -> list[tuple[int, Any]]:
    settings = {"width": 2, "silence": 30.0, "max_failures": 3} | settings
    parts = open_parts(script, **settings)
    return list(parts.all(count, meter or Counts()))


def test_every_part_comes_once_and_no_more_are_open_than_there_are_workers() -> None:
    script = Script({})
    widest = 0
    news = script.news

    def watching(attempts: Sequence[int], timeout: float) -> list[tuple[int, News]]:
        nonlocal widest
        widest = max(widest, len(attempts))
        return news(attempts, timeout)

    script.news = watching  # type: ignore[method-assign]
    assert sorted(all_of(script, 7)) == [(n, n * 10) for n in range(7)]
    assert script.sent == list(range(7)) and widest == 2


def test_a_lost_part_is_sent_again_and_what_it_had_done_is_taken_back() -> None:
    meter = Counts()
    script = Script({1: [(7.0, Lost(why="its machine burned")), (BEAT, Done(result="again"))]})
    found = dict(all_of(script, 3, meter))
    assert found == {0: 0, 1: "again", 2: 20}
    assert sorted(script.sent) == [0, 1, 1, 2]
    assert (meter.advanced, meter.settled) == (0, 0), "only lost work gave signs here"


def test_a_silent_part_is_cancelled_and_sent_again() -> None:
    script = Script({0: [(10.0, None)]})
    assert dict(all_of(script, 2)) == {0: 0, 1: 10}
    assert script.cancelled == [1] and script.sent == [0, 1, 0]
    assert 40 <= script.time <= 50, "10 seconds of signs, and 30 of silence"


def test_whoever_is_long_about_a_result_makes_no_other_part_late() -> None:
    script = Script({0: [(3.0, Done(result=0))], 1: [(20.0, Done(result=10))]})
    parts = open_parts(script, width=2, silence=30, max_failures=0)
    found = {}
    for number, result in parts.all(2, Counts()):
        found[number] = result
        script.time += 100  # of writing; what the other part tells waits meanwhile
    assert found == {0: 0, 1: 10} and not script.cancelled


def test_a_part_that_never_began_waits_again_and_is_no_failure() -> None:
    script = Script({0: [(0.0, None)] * 5})
    assert dict(all_of(script, 1, max_failures=0)) == {0: 0}
    assert script.sent == [0] * 6


def test_a_stuck_part_is_sent_again_when_others_are_long_back() -> None:
    script = Script({0: [(10_000.0, Done(result="late"))], 1: [(20.0, Done(result=10))]})
    assert dict(all_of(script, 3))[0] == 0
    assert script.cancelled == [1]
    assert script.time == pytest.approx(SLOW * 20, abs=15)


def test_nothing_is_stuck_as_long_as_nobody_knows_how_long_a_part_takes() -> None:
    script = Script({n: [(5_000.0, Done(result=n * 10))] for n in range(2)})
    assert dict(all_of(script, 2)) == {0: 0, 1: 10}
    assert not script.cancelled


def test_too_many_failures_stop_the_work_with_what_each_said() -> None:
    lost = [(BEAT, Lost(why=f"cause {n}")) for n in range(9)]
    script = Script({1: lost})
    with pytest.raises(RunError) as caught:
        all_of(script, 3, max_failures=2)
    assert [f"part 1: cause {n}" in str(caught.value) for n in range(4)] == [True] * 3 + [False]
    assert "max_failures (2)" in str(caught.value)


def test_what_is_no_machine_s_fault_is_raised_at_once_and_the_rest_is_cancelled() -> None:
    script = Script({0: [(BEAT, Refused(error=DataError("no such row")))], 1: [(99.0, None)]})
    with pytest.raises(DataError, match="no such row"):
        all_of(script, 4)
    assert script.sent == [0, 1] and 2 in script.cancelled


def test_a_signal_lets_the_open_parts_come_and_sends_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, came = Script({1: [(9.0, Done(result=10))]}), []
    parts = open_parts(script, width=2, silence=30, max_failures=0)

    def leave() -> None:
        raise Stopped(15)

    with pytest.raises(Stopped):
        for number, _ in parts.all(5, Counts()):
            came.append(number)
            monkeypatch.setattr(parts_module, "asked", lambda: 15)
            monkeypatch.setattr(parts_module, "leave_if_asked", leave)
    assert sorted(came) == [0, 1, 2], "the third was sent before anyone heard of the first"
    assert script.sent == [0, 1, 2]
