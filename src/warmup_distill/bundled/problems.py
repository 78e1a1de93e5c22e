"""Grade-school word problems with worked solutions, in GSM8K's form.

A problem is two to four steps over whole numbers from 1 to 99: one line per step with its
calculation, then `#### answer`. Everything is a pure function of a seed. A problem's split is a
pure function of its family and its numbers, so train, dev and test never share a problem, not
even one that differs only in names and things, whatever the seed and however many are drawn.

Solutions can also be written with a *habit*: another wording, a skipped step, or a slip (one
wrong result, carried through). The teacher never sees those; the student was raised on a mix.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "dev", "test"]
Habit = Literal["none", "wording", "skip", "slip"]

LARGEST = 99
"""The largest number that occurs anywhere in a problem or its solution."""

NAMES = ("Ava", "Ben", "Cara", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jack", "Kim", "Leo")
THINGS = ("apples", "books", "cards", "coins", "cups", "pens", "shells", "stamps")

_APPLY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
}
_IN_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a solution: `result = left operator right`, said in `text` at `{sum}`."""

    result: str
    left: str
    operator: str
    right: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """Problems of one shape: letters are drawn numbers, `s1 … s4` the results of the steps."""

    name: str
    numbers: dict[str, tuple[int, int]]
    question: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem with its right solution; `solution` and `answer` are what a verifier holds to."""

    problem_id: str
    split: Split
    family: Family
    words: dict[str, str]
    numbers: dict[str, int]

    @property
    def question(self) -> str:
        return self.family.question.format(**self.words, **self.numbers)

    @property
    def answer(self) -> str:
        return str(_results(self.family, self.numbers)[self.family.steps[-1].result])

    @property
    def solution(self) -> str:
        return self.write("none", random.Random(0))

    def write(self, habit: Habit, rng: random.Random) -> str:
        """The solution as someone with this habit writes it; only `slip` gets the answer wrong."""
        slipping = rng.randrange(len(self.family.steps)) if habit == "slip" else None
        skipped = rng.randrange(len(self.family.steps) - 1) if habit == "skip" else None
        values, lines = dict(self.numbers), []
        for index, step in enumerate(self.family.steps):
            left, right = values[step.left], values[step.right]
            result = _APPLY[step.operator](left, right)
            if index == slipping:
                result = _slip(result, rng)
            values[step.result] = result
            if index == skipped:
                continue
            if habit == "wording":
                lines.append(f"Then {left} {_IN_WORDS[step.operator]} {right} makes {result}.")
            else:
                calculation = f"{left}{step.operator}{right}={result}"
                lines.append(step.text.format(**self.words, sum=calculation))
        return "\n".join([*lines, f"#### {values[self.family.steps[-1].result]}"])


def _slip(result: int, rng: random.Random) -> int:
    """A near miss, as people make them: off by one, or off by ten."""
    near = [result + step for step in (-10, -1, 1, 10) if 1 <= result + step <= LARGEST]
    return rng.choice(near)


def _results(family: Family, numbers: dict[str, int]) -> dict[str, int]:
    values = dict(numbers)
    for step in family.steps:
        values[step.result] = _APPLY[step.operator](values[step.left], values[step.right])
    return values


def _is_fair(family: Family, numbers: dict[str, int]) -> bool:
    """Every number is from 1 to LARGEST and every division comes out even."""
    values = _results(family, numbers)
    return all(1 <= value <= LARGEST for value in values.values()) and all(
        values[step.left] % values[step.right] == 0 for step in family.steps if step.operator == "/"
    )


def _step(formula: str, text: str) -> Step:
    result, _, left, operator, right = formula.split()
    return Step(result=result, left=left, operator=operator, right=right, text=text)


FAMILIES = (
    Family(
        name="gifts",
        numbers={"a": (10, 80), "b": (10, 80), "c": (10, 80)},
        question="{name} has {a} {things}. {name} finds {b} more and gives {c} to {friend}. "
        "How many {things} does {name} have now?",
        steps=(
            _step("s1 = a + b", "{name} has {sum} {things}."),
            _step("s2 = s1 - c", "{name} keeps {sum} {things}."),
        ),
    ),
    Family(
        name="boxes",
        numbers={"a": (2, 9), "b": (2, 40), "c": (10, 80)},
        question="{name} buys {a} boxes of {b} {things} and gives {c} of them to {friend}. "
        "How many {things} does {name} have left?",
        steps=(
            _step("s1 = a * b", "{name} buys {sum} {things}."),
            _step("s2 = s1 - c", "{name} keeps {sum} {things}."),
        ),
    ),
    Family(
        name="together",
        numbers={"a": (10, 60), "b": (10, 60)},
        question="{name} has {a} {things}. {friend} has {b} more than {name}. "
        "How many {things} do they have together?",
        steps=(
            _step("s1 = a + b", "{friend} has {sum} {things}."),
            _step("s2 = a + s1", "Together they have {sum} {things}."),
        ),
    ),
    Family(
        name="sharing",
        numbers={"a": (5, 80), "b": (5, 80), "c": (2, 9)},
        question="{name} has {a} {things} and {friend} has {b} {things}. "
        "They share them equally among {c} friends. How many {things} does each friend get?",
        steps=(
            _step("s1 = a + b", "Together they have {sum} {things}."),
            _step("s2 = s1 / c", "Each friend gets {sum} {things}."),
        ),
    ),
    Family(
        name="shopping",
        numbers={"a": (2, 9), "b": (2, 30), "c": (2, 9), "d": (2, 30)},
        question="{name} buys {a} {things} for {b} dollars each and {c} {others} for {d} dollars "
        "each. How many dollars does {name} pay?",
        steps=(
            _step("s1 = a * b", "The {things} cost {sum} dollars."),
            _step("s2 = c * d", "The {others} cost {sum} dollars."),
            _step("s3 = s1 + s2", "{name} pays {sum} dollars."),
        ),
    ),
    Family(
        name="week",
        numbers={"a": (2, 30), "b": (2, 9), "c": (10, 60), "d": (10, 60)},
        question="{name} sells {a} {things} a day for {b} days. Then {name} sells {c} more, "
        "but {friend} brings {d} back. How many {things} did {name} sell?",
        steps=(
            _step("s1 = a * b", "{name} sells {sum} {things}."),
            _step("s2 = s1 + c", "With the others this makes {sum} {things}."),
            _step("s3 = s2 - d", "Without those brought back this makes {sum} {things}."),
        ),
    ),
    Family(
        name="change",
        numbers={"a": (2, 9), "b": (2, 20), "c": (2, 9), "d": (2, 20), "e": (20, 99)},
        question="{name} has {e} dollars and buys {a} {things} for {b} dollars each and {c} "
        "{others} for {d} dollars each. How many dollars are left?",
        steps=(
            _step("s1 = a * b", "The {things} cost {sum} dollars."),
            _step("s2 = c * d", "The {others} cost {sum} dollars."),
            _step("s3 = s1 + s2", "{name} pays {sum} dollars."),
            _step("s4 = e - s3", "{name} keeps {sum} dollars."),
        ),
    ),
)


def split_of(family: Family, numbers: dict[str, int]) -> Split:
    """Which split a problem belongs to: 1 in 10 is test, 1 in 20 dev, by hash of its numbers."""
    key = f"{family.name} {sorted(numbers.items())}".encode()
    bucket = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % 20
    return "test" if bucket < 2 else "dev" if bucket == 2 else "train"


def draw(split: Split, seed: int) -> Iterator[Problem]:
    """An endless stream of distinct problems of a split, the same for the same seed.

    Example:
        >>> from itertools import islice
        >>> problem = next(islice(draw("train", seed=0), 1))
        >>> problem.solution.splitlines()[-1] == f"#### {problem.answer}"
        True
    """
    rng = random.Random(f"{split} {seed}")
    seen: set[str] = set()
    while True:
        family = rng.choice(FAMILIES)
        numbers = {letter: rng.randint(*bounds) for letter, bounds in family.numbers.items()}
        if not _is_fair(family, numbers) or split_of(family, numbers) != split:
            continue
        name, friend = rng.sample(NAMES, 2)
        things, others = rng.sample(THINGS, 2)
        problem = Problem(
            problem_id=f"{split}-{seed}-{len(seen):06d}",
            split=split,
            family=family,
            words={"name": name, "friend": friend, "things": things, "others": others},
            numbers=numbers,
        )
        if problem.question not in seen:
            seen.add(problem.question)
            yield problem
