"""How often the 95% intervals of differences hold what is true: simulated models, known difference.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --repetitions 200 --only seeds

Each case draws prompts, completions and trainings anew, 2,000 times, from models whose true
difference is known, and asks `warmup_distill.scoring.intervals.difference`. Beside its coverage
stand two intervals over prompts that are not used, and why: Student's t, and BCa by itself.

Coverage should be 95% give or take 1.5; the simulation itself is off by 0.5 (one standard error).
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from warmup_distill.scoring.intervals import difference
from warmup_distill.scoring.statistics import Measured, Sum, Values, shares

Draw = Callable[[np.random.Generator], tuple[list[Measured], list[Measured]]]
"""Two models, each by training seed."""


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    truth: float
    draw: Draw
    largest: float | None = 100.0


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Percent of the repetitions."""

    name: str
    covered: float
    too_low: float
    """The whole interval lies below what is true."""
    too_high: float
    student: float | None
    bca: float | None


def measured(totals: NDArray[np.float64], weights: float | NDArray[np.float64] = 1.0, *,
             first: int = 0) -> list[Measured]:  # fmt: skip
    """Of totals [S, P, K]; prompts are numbered from `first` on."""
    pairs = np.stack(np.broadcast_arrays(totals, weights), axis=-1).tolist()
    return [
        {f"p{first + number:06d}": [Sum(*one) for one in row] for number, row in enumerate(seed)}
        for seed in pairs
    ]


def answers(prompts: int, ours: float, theirs: float) -> Case:
    """Prompts that only one of two models answers right, in so many of all."""

    def draw(generator: np.random.Generator) -> tuple[list[Measured], list[Measured]]:
        kind = generator.choice(3, size=(1, prompts, 1), p=[ours, theirs, 1 - ours - theirs])
        return measured(100.0 * (kind == 0)), measured(100.0 * (kind == 1))

    name = f"paired: right or wrong, {prompts:,} prompts, {ours:.1%} and {theirs:.1%} change"
    return Case(name=name, truth=100 * (ours - theirs), draw=draw)


def samples(prompts: int, number: int) -> Case:
    """Chances that differ from prompt to prompt; both models share the random numbers."""

    def draw(generator: np.random.Generator) -> tuple[list[Measured], list[Measured]]:
        chance = generator.beta(0.4, 0.6, size=(1, prompts, 1))
        numbers = generator.random((1, prompts, number))
        better = chance + (1 - chance) * 0.05
        return measured(100.0 * (numbers < better)), measured(100.0 * (numbers < chance))

    return Case(name=f"nested: {prompts:,} prompts × {number} samples", truth=3, draw=draw)


def nats(prompts: int, spread: float) -> Case:
    """Nats over unlike numbers of tokens; few prompts have most of them."""

    def draw(generator: np.random.Generator) -> tuple[list[Measured], list[Measured]]:
        shape = (1, prompts, 1)
        tokens = [generator.integers(20, 80, shape) for _ in range(2)]
        each = generator.lognormal(-0.5, spread, shape)
        noise = [generator.lognormal(0, 0.2, shape) for _ in range(2)]
        ours, theirs = (each * n * t for n, t in zip(noise, tokens, strict=True))
        return measured(0.9 * ours, tokens[0]), measured(theirs, tokens[1])

    truth = -0.1 * math.exp(-0.5 + 0.2**2 / 2 + spread**2 / 2)
    name = f"paired: nats per token, {prompts:,} prompts, spread {spread}"
    return Case(name=name, truth=truth, draw=draw, largest=None)


def seeds(number: int, training: float, lasting: float = 0.0) -> Case:
    """Trainings that vary, on the same 500 prompts, 2 samples of each; other draws in each seed.

    Args:
        training: deviation of the difference over seeds, in points.
        lasting: over prompts, in all seeds alike.
    """

    def draw(generator: np.random.Generator) -> tuple[list[Measured], list[Measured]]:
        chance = generator.uniform(0.3, 0.6, (1, 500, 1))
        shift = generator.normal(0, training / 100, (number, 1, 1))
        lasts = generator.normal(0, lasting / 100, (1, 500, 1))
        own = generator.normal(0, 0.05, (number, 500, 1))
        random = generator.random((number, 500, 2))
        better = chance + 0.02 + np.clip(shift + lasts + own, -0.3, 0.3)
        return measured(100.0 * (random < better)), measured(100.0 * (random < chance))

    name = (
        f"nested: {number} seeds × 500 prompts × 2, training ± {training:g}, prompts ± {lasting:g}"
    )
    return Case(name=name, truth=2, draw=draw)


def unpaired(prompts: int, others: int, *, samples: int = 1) -> Case:
    """Two models that were asked other prompts."""

    def draw(generator: np.random.Generator) -> tuple[list[Measured], list[Measured]]:
        models = []
        for number, size, more in ((0, prompts, 0.05), (others + prompts, others, 0.0)):
            chance = generator.beta(0.4, 0.6, size=(1, size, 1))
            random = generator.random((1, size, samples))
            right = random < chance + (1 - chance) * more
            models.append(measured(100.0 * right, first=number))
        return models[0], models[1]

    name = f"unpaired: {prompts:,} and {others:,} prompts × {samples}"
    return Case(name=name, truth=3, draw=draw)


def unpaired_seeds(number: int, training: float) -> Case:
    """Two models that were asked 500 prompts each, other ones, after several trainings."""

    def draw(generator: np.random.Generator) -> tuple[list[Measured], list[Measured]]:
        models = []
        for first, mean in ((0, 0.37), (500, 0.35)):
            hard = generator.uniform(-0.25, 0.25, (1, 500, 1))
            shift = generator.normal(0, training / 100, (number, 1, 1))
            right = generator.random((number, 500, 1)) < mean + hard + shift
            models.append(measured(100.0 * right, first=first))
        return models[0], models[1]

    name = f"unpaired: {number} seeds × 500 prompts, training ± {training:g}"
    return Case(name=name, truth=2, draw=draw)


def cases() -> Iterator[Case]:
    yield answers(2_000, 0.06, 0.04)
    yield answers(200, 0.06, 0.04)
    yield answers(50, 0.2, 0.1)
    yield nats(2_000, 0.9)
    yield nats(500, 0.9)
    yield nats(500, 1.5)
    yield nats(60, 0.9)
    yield nats(10, 0.5)
    yield samples(2_000, 4)
    yield samples(200, 4)
    for training in (0.0, 0.7, 1.5, 5.0):
        yield seeds(3, training)
    yield seeds(3, 1.5, lasting=15.0)
    yield seeds(5, 1.5)
    yield unpaired(2_000, 2_000)
    yield unpaired(200, 300)
    yield unpaired(1_000, 500, samples=4)
    yield unpaired_seeds(3, 1.5)


def coverage(case: Case, repetitions: int) -> Coverage:
    generator = np.random.default_rng(1)
    too_low = too_high = 0
    changes = []
    for _ in range(repetitions):
        ours, theirs = case.draw(generator)
        found = difference(ours, theirs, largest=case.largest)
        assert found is not None
        too_low += found.high < case.truth
        too_high += found.low > case.truth
        if found.is_paired and found.seeds == 1:
            changes.append((shares(ours) - shares(theirs)).mean(axis=(0, 2)))
    student, bca = _others(np.array(changes), case.truth) if changes else (None, None)
    return Coverage(
        name=case.name,
        covered=100 * (1 - (too_low + too_high) / repetitions),
        too_low=100 * too_low / repetitions,
        too_high=100 * too_high / repetitions,
        student=student,
        bca=bca,
    )


def _others(changes: Values, truth: float) -> tuple[float, float]:
    """Coverage of Student's t and of BCa over prompts [repetitions, P], nothing added."""
    half = stats.sem(changes, axis=-1) * stats.t.ppf(0.975, changes.shape[-1] - 1)
    covered = abs(changes.mean(axis=-1) - truth) <= half
    held = []
    for row in changes:
        if np.ptp(row) == 0:
            held.append(row[0] == truth)
            continue
        low, high = stats.bootstrap(
            (row,), np.mean, n_resamples=999, batch=200, vectorized=True, method="BCa", rng=0
        ).confidence_interval
        held.append(low <= truth <= high)
    return 100 * float(covered.mean()), 100 * float(np.mean(held))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    arguments = parser.parse_args()
    print(f"{'case':72} covered   too low  too high  Student       BCa")
    results = []
    for case in cases():
        if arguments.only not in case.name:
            continue
        found = coverage(case, arguments.repetitions)
        results.append(asdict(found))
        numbers = (found.covered, found.too_low, found.too_high, found.student, found.bca)
        print(f"{found.name:72}", *("        –" if n is None else f"{n:8.1f}%" for n in numbers),
              flush=True)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
