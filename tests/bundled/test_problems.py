"""The bundled problems: deterministic, right, and disjoint between the splits."""

import random
import re
from itertools import islice

import pytest

from warmup_distill.bundled.problems import FAMILIES, LARGEST, Problem, draw
from warmup_distill.scoring.answers import is_right

CALCULATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def some(split: str, count: int = 2000, seed: int = 0) -> list[Problem]:
    return list(islice(draw(split, seed), count))  # type: ignore[arg-type]


def numbers(problem: Problem) -> tuple[str, tuple[int, ...]]:
    return problem.family.name, tuple(problem.numbers.values())


def test_the_same_seed_draws_the_same_problems_and_another_seed_others() -> None:
    first, again, other = some("train", 200), some("train", 200), some("train", 200, seed=1)
    assert [p.question for p in first] == [p.question for p in again]
    assert [p.question for p in first] != [p.question for p in other]


def test_splits_share_no_problem_not_even_in_its_numbers_alone() -> None:
    train, dev, test = ({numbers(p) for p in some(s, 3000)} for s in ("train", "dev", "test"))
    assert not (train & dev or train & test or dev & test)


def test_no_question_is_drawn_twice() -> None:
    questions = [problem.question for problem in some("test", 3000)]
    assert len(set(questions)) == 3000


def test_every_calculation_in_a_solution_is_right_and_within_range() -> None:
    for problem in some("train"):
        steps = CALCULATION.findall(problem.solution)
        assert 2 <= len(steps) <= 4
        for left, operator, right, result in steps:
            assert (
                int(left)
                == {
                    "+": int(result) - int(right),
                    "-": int(result) + int(right),
                    "*": int(result) / int(right),
                    "/": int(result) * int(right),
                }[operator]
            )
            assert 1 <= int(result) <= LARGEST
        assert problem.solution.endswith(f"\n#### {steps[-1][-1]}")
        assert problem.answer == steps[-1][-1]


@pytest.mark.parametrize(
    ("habit", "right"), [("none", True), ("wording", True), ("skip", True), ("slip", False)]
)
def test_only_a_slip_gets_the_answer_wrong(habit: str, right: bool) -> None:
    verdicts = [
        is_right(problem.write(habit, random.Random(i)), problem.answer)  # type: ignore[arg-type]
        for i, problem in enumerate(some("dev", 500))
    ]
    # A slip can cancel out in a division; that is rare.
    assert all(verdicts) if right else sum(verdicts) <= 10


def test_every_family_occurs() -> None:
    assert {problem.family.name for problem in some("test")} == {f.name for f in FAMILIES}
