"""Paired differences: values worked by hand, and intervals that cover as often as they say."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from warmup_distill.scoring.statistics import Difference, Sum, paired_difference

Values = Sequence[float] | NDArray[np.float64]


def sums(totals: Values, weights: Values | None = None) -> dict[str, Sum]:
    weights = [1.0] * len(totals) if weights is None else weights
    pairs = zip(totals, weights, strict=True)
    return {f"p{number}": Sum(float(a), float(b)) for number, (a, b) in enumerate(pairs)}


def difference(*values: Values, largest: float | None = None) -> Difference:
    """Of two models; two more lists are weights."""
    ours, theirs = sums(values[0], *values[2:3]), sums(values[1], *values[3:4])
    found = paired_difference(ours, theirs, largest=largest)
    assert found is not None
    return found


def test_a_difference_of_means_has_student_s_interval_of_the_prompts_differences() -> None:
    # differences 1, 2, 3, 4: mean 2.5, deviation √(5/3) = 1.29099, error 0.64550;
    # t with 3 degrees of freedom 3.18245: half a width of 2.05426
    found = difference([2, 4, 6, 8], [1, 2, 3, 4])
    assert found.difference == 2.5 and found.prompts == 4
    assert (found.low, found.high) == pytest.approx((0.44574, 4.55426), abs=1e-4)
    assert found.is_clear


def test_right_and_wrong_answers_have_the_adjusted_interval_of_bonett_and_price() -> None:
    # 20 prompts, 3 only ours right and 1 only theirs: 4 and 2 of 22 with the imaginary two, so a
    # difference of 2/22 and an error of √((6/22 − (2/22)²) / 21) = 0.112220; t with 21 degrees of
    # freedom 2.07961
    ours = [100] * 3 + [0] + [100] * 10 + [0] * 6
    theirs = [0] * 3 + [100] + [100] * 10 + [0] * 6
    found = difference(ours, theirs, largest=100)
    assert found.difference == pytest.approx(10)
    assert (found.low, found.high) == pytest.approx((-14.247, 32.428), abs=2e-3)


def test_a_difference_of_ratios_is_that_of_the_totals() -> None:
    # 1 + 6 nats over 2 + 5 tokens against 4 + 4 over 4 + 1
    found = difference([1, 6], [4, 4], [2, 5], [4, 1])
    assert found.difference == pytest.approx(7 / 7 - 8 / 5)


def test_prompts_are_known_by_their_names_and_not_by_their_order() -> None:
    ours, theirs = sums([1, 5, 2, 9]), sums([0, 5, 1, 4])
    turned = dict(reversed(theirs.items()))
    assert paired_difference(ours, theirs) == paired_difference(ours, turned)


def test_other_prompts_or_too_few_of_them_have_no_pairing() -> None:
    ours = sums([1.0, 2.0, 3.0])
    assert paired_difference(ours, sums([1.0, 2.0])) is None
    assert paired_difference(sums([1.0]), sums([2.0]), largest=100) is None
    assert paired_difference({}, {}) is None


def test_models_that_never_differ_on_few_prompts_may_differ_on_others() -> None:
    scores = difference([100, 0] * 10, [100, 0] * 10, largest=100)
    assert scores.difference == 0 and scores.low < -5 and scores.high > 5
    distances = difference([1.5] * 20, [1.5] * 20, [3] * 20, [3] * 20)
    assert (distances.low, distances.difference, distances.high) == (0, 0, 0)
    assert not scores.is_clear and not distances.is_clear


def test_what_the_prompts_share_does_not_count_as_an_error() -> None:
    # as in the quickstart: hard and easy prompts, on which both models agree but for a few
    generator = np.random.default_rng(0)
    hard = generator.random(2000)
    ours, theirs = 100.0 * (hard < 0.35), 100.0 * (hard < 0.332)
    found = difference(ours, theirs, largest=100)
    independent = 1.96 * math.hypot(*(v.std() / math.sqrt(2000) for v in (ours, theirs)))
    assert found.is_clear and found.high - found.low < independent / 2


@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 25.0, 100.0])] * 2), min_size=2, max_size=30),
    st.sampled_from([100.0, None]),
)
def test_an_interval_holds_its_difference(
    pairs: list[tuple[float, float]], largest: float | None
) -> None:
    found = difference(*zip(*pairs, strict=True), largest=largest)  # type: ignore[arg-type]
    assert found.low - 1e-9 <= found.difference <= found.high + 1e-9
    assert largest is None or -largest <= found.low <= found.high <= largest


Draw = Callable[[np.random.Generator], Difference]


def flips(prompts: int, ours: float, theirs: float) -> Draw:
    """Prompts that only one of two models answers right, with all of their samples."""

    def draw(generator: np.random.Generator) -> Difference:
        kind = generator.choice(3, size=prompts, p=[ours, theirs, 1 - ours - theirs])
        return difference(100.0 * (kind == 0), 100.0 * (kind == 1), largest=100)

    return draw


def samples(prompts: int, number: int) -> Draw:
    """Chances that differ from prompt to prompt, shared random numbers, means over samples."""

    def draw(generator: np.random.Generator) -> Difference:
        chance = generator.beta(0.4, 0.6, size=(prompts, 1))
        numbers = generator.random((prompts, number))
        means = [100 * (numbers < c).mean(-1) for c in (chance + (1 - chance) * 0.1, chance)]
        return difference(*means, largest=100)

    return draw


def distances(prompts: int, spread: float) -> Draw:
    """Nats over unlike numbers of tokens, a few prompts with most of them."""

    def draw(generator: np.random.Generator) -> Difference:
        tokens = [generator.integers(20, 80, prompts) for _ in range(2)]
        nats = generator.lognormal(-0.5, spread, prompts)
        noise = [generator.lognormal(0, 0.2, prompts) for _ in range(2)]
        ours, theirs = (nats * n * t for n, t in zip(noise, tokens, strict=True))
        return difference(0.9 * ours, theirs, *tokens)

    return draw


MEAN = math.exp(-0.5 + 0.2**2 / 2)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (flips(20, 0.05, 0.0), 5),
        (flips(20, 0.05, 0.02), 3),
        (flips(20, 0.3, 0.1), 20),
        (flips(50, 0.1, 0.05), 5),
        (flips(200, 0.04, 0.02), 2),
        (samples(20, 4), 6),
        (samples(100, 4), 6),
        (distances(10, 0.5), -0.1 * MEAN * math.exp(0.5**2 / 2)),
        (distances(60, 0.9), -0.1 * MEAN * math.exp(0.9**2 / 2)),
    ],
)
def test_intervals_cover_what_is_true(draw: Draw, truth: float) -> None:
    generator = np.random.default_rng(1)
    found = [draw(generator) for _ in range(400)]
    share = sum(one.low <= truth <= one.high for one in found) / len(found)
    assert share >= 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / 400)


def test_with_many_prompts_the_imaginary_ones_do_not_matter() -> None:
    generator = np.random.default_rng(2)
    change = generator.choice([100.0, -100.0, 0.0], size=2000, p=[0.1, 0.05, 0.85])
    found = difference(change, np.zeros(2000), largest=100)
    plain = 2 * 1.961 * change.std(ddof=1) / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(plain, rel=0.02)
