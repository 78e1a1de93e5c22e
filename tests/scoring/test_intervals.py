"""Intervals: values worked by hand, and that they cover as often as they say."""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from warmup_distill.scoring.intervals import Errors, Interval, difference, interval
from warmup_distill.scoring.resampling import reach
from warmup_distill.scoring.statistics import Measured, Sum

ROOT = Path(__file__).parents[2]

Values = Sequence[float] | NDArray[np.float64]


def sums(totals: Values, weights: Values | None = None, *, first: int = 0) -> Measured:
    """One completion of each prompt."""
    weights = [1.0] * len(totals) if weights is None else weights
    pairs = enumerate(zip(totals, weights, strict=True), start=first)
    return {f"p{number}": [Sum(float(a), float(b))] for number, (a, b) in pairs}


def paired(ours: Values, theirs: Values, *, largest: float | None = None) -> Interval:
    found = difference([sums(ours)], [sums(theirs)], largest=largest)
    assert found is not None and found.is_paired
    return found


def ends(found: Interval) -> tuple[float, float]:
    return found.low, found.high


def test_few_prompts_have_student_s_interval_of_their_differences() -> None:
    # differences 1, 2, 3, 4: mean 2.5, deviation √(5/3) = 1.29099, error 0.64550;
    # t with 3 degrees of freedom 3.18245: half a width of 2.05426
    found = paired([2, 4, 6, 8], [1, 2, 3, 4])
    assert found.mean == 2.5 and found.prompts == 4
    assert ends(found) == pytest.approx((0.44574, 4.55426), abs=1e-4)
    assert found.is_clear


def test_right_and_wrong_answers_have_two_imaginary_prompts_beside_them() -> None:
    # Bonett and Price: of 6 prompts 3 only ours right and 1 only theirs, so 4 and 2 of 8: a mean
    # of 25 and an error of √((6 · 100² − 8 · 25²) / 7 / 8) = 31.339; t with 7 degrees 2.36462
    found = paired([100, 100, 100, 0, 100, 0], [0, 0, 0, 100, 100, 0], largest=100)
    assert found.mean == pytest.approx(100 / 3)
    assert ends(found) == pytest.approx((-49.104, 99.104), abs=1e-2)


def test_a_difference_of_ratios_is_that_of_the_totals() -> None:
    # 1 + 6 nats over 2 + 5 tokens against 4 + 4 over 4 + 1
    found = difference([sums([1, 6], [2, 5])], [sums([4, 4], [4, 1])])
    assert found and found.mean == pytest.approx(7 / 7 - 8 / 5)


def test_prompts_are_known_by_their_names_and_not_by_their_order() -> None:
    ours, theirs = sums(range(20)), sums([n % 3 for n in range(20)])
    turned = dict(reversed(theirs.items()))
    assert difference([ours], [theirs]) == difference([ours], [turned])


def test_fewer_than_two_prompts_say_nothing() -> None:
    assert difference([sums([1.0])], [sums([2.0])], largest=100) is None
    assert difference([{}], [{}]) is None and interval([]) is None
    assert difference([sums([1.0, 2.0])], [{}]) is None


def test_models_that_never_differ_on_few_prompts_may_differ_on_others() -> None:
    scores = paired([100, 0] * 10, [100, 0] * 10, largest=100)
    assert scores.mean == 0 and scores.low < -5 and scores.high > 5
    seeds = difference([sums([100, 0] * 10)] * 3, [sums([100, 0] * 10)] * 3, largest=100)
    assert seeds and ends(seeds) == ends(scores)
    distances = paired([1.5] * 20, [1.5] * 20)
    assert (distances.low, distances.mean, distances.high) == (0, 0, 0)
    assert not scores.is_clear and not distances.is_clear


def test_what_the_prompts_share_does_not_count_as_an_error() -> None:
    # as in the quickstart: hard and easy prompts, on which both models agree but for a few
    generator = np.random.default_rng(0)
    hard = generator.random(2000)
    ours, theirs = 100.0 * (hard < 0.35), 100.0 * (hard < 0.332)
    found = paired(ours, theirs, largest=100)
    independent = 1.96 * math.hypot(*(v.std() / math.sqrt(2000) for v in (ours, theirs)))
    assert found.is_clear and found.high - found.low < independent / 2


@given(
    st.lists(st.tuples(*[st.sampled_from([0.0, 25.0, 100.0])] * 2), min_size=2, max_size=30),
    st.sampled_from([100.0, None]),
)
def test_an_interval_holds_its_difference(
    pairs: list[tuple[float, float]], largest: float | None
) -> None:
    found = paired(*zip(*pairs, strict=True), largest=largest)  # type: ignore[arg-type]
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert largest is None or -largest <= found.low <= found.high <= largest


def test_with_many_prompts_the_imaginary_ones_do_not_matter() -> None:
    generator = np.random.default_rng(2)
    change = generator.choice([100.0, -100.0, 0.0], size=2000, p=[0.1, 0.05, 0.85])
    found = paired(change, np.zeros(2000), largest=100)
    plain = 2 * 1.961 * change.std(ddof=1) / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("bounded", [True, False])
def test_resampling_moves_and_mirrors_with_its_values(bounded: bool) -> None:
    values = np.random.default_rng(3).exponential(size=40)
    low, high = reach(values, bounded=bounded)
    assert reach(5 + 2 * values, bounded=bounded) == pytest.approx((5 + 2 * low, 5 + 2 * high))
    assert reach(-values, bounded=bounded) == pytest.approx((-high, -low))


def test_resampling_leans_to_where_a_rare_value_could_be_missing() -> None:
    values = np.array([1.0] * 5 + [0.0] * 95)
    low, high = reach(values, bounded=True)
    # Clopper and Pearson's exact interval of 5 of 100: 0.0164 to 0.1128. Student's: 0.0065 to
    # 0.0935
    assert 0.012 < low < 0.025 and 0.095 < high < 0.12


def test_without_a_bound_both_ends_reach_as_far_as_the_longer_of_two_mirrored_intervals() -> None:
    values = np.random.default_rng(4).standard_t(2, size=60)
    narrow, wide = (reach(values, bounded=bounded) for bounded in (True, False))
    assert wide[0] <= narrow[0] < narrow[1] <= wide[1]
    assert wide[1] - wide[0] > 1.02 * (narrow[1] - narrow[0])


def test_few_seeds_have_student_s_interval_of_their_means() -> None:
    # differences of 1, 2 and 3 in the three seeds, on all prompts alike: mean 2, error 1/√3,
    # t with 2 degrees of freedom 4.30265
    ours = [sums([5.0 + seed] * 6) for seed in (1, 2, 3)]
    found = difference(ours, [sums([5.0] * 6)] * 3)
    assert found is not None and found.seeds == 3 and found.mean == pytest.approx(2)
    assert ends(found) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert found.errors.training == pytest.approx(1 / math.sqrt(3))
    assert found.errors.prompts == pytest.approx(0)


def test_seeds_that_agree_leave_the_interval_over_prompts() -> None:
    changes = np.random.default_rng(5).normal(size=30)
    one = difference([sums(changes)], [sums(np.zeros(30))])
    three = difference([sums(changes)] * 3, [sums(np.zeros(30))] * 3)
    assert one and three and ends(three) == pytest.approx(ends(one))
    assert three.errors == Errors(prompts=one.errors.prompts, decoding=None, training=0.0)


def test_decoding_is_told_apart_from_prompts() -> None:
    # two completions of each prompt, 0 and 2: a variance of 2 within each, over 4 values 0.5; the
    # prompts' means are alike
    ours = {name: [Sum(0.0, 1), Sum(2.0, 1)] for name in ("a", "b")}
    theirs = {name: [Sum(0.0, 1)] * 2 for name in ("a", "b")}
    found = difference([ours], [theirs])
    assert found and found.errors.decoding == pytest.approx(math.sqrt(0.5))
    assert found.errors.prompts == 0 and found.errors.training is None


def test_the_three_sources_of_error_are_found_again() -> None:
    generator = np.random.default_rng(6)
    seeds, prompts, samples = 40, 400, 3
    shape = (seeds, prompts, samples)
    values = (
        generator.normal(0, 2, (seeds, 1, 1)) + generator.normal(0, 5, (1, prompts, 1))
        + generator.normal(0, 10, shape)
    )  # fmt: skip
    ours = [{f"{p:03d}": [Sum(v, 1) for v in row] for p, row in enumerate(one)} for one in values]
    found = interval(ours)
    assert found is not None and found.errors.decoding and found.errors.training
    assert found.errors.decoding == pytest.approx(10 / math.sqrt(math.prod(shape)), rel=0.05)
    assert found.errors.prompts == pytest.approx(5 / math.sqrt(prompts), rel=0.15)
    assert found.errors.training == pytest.approx(2 / math.sqrt(seeds), rel=0.35)


def test_other_prompts_are_compared_as_independent() -> None:
    # Student's half width of 1, 2, 3, 4 is 2.05426, of 2, 4, 6, 8 twice that; as independent ones
    # they make √(2.05426² + 4.10852²) = 4.59346
    found = difference([sums([1, 2, 3, 4])], [sums([2, 4, 6, 8], first=10)])
    assert found is not None and not found.is_paired and found.mean == -2.5
    assert ends(found) == pytest.approx((-2.5 - 4.59346, -2.5 + 4.59346), abs=1e-4)


def test_a_model_that_is_always_right_may_be_wrong_elsewhere() -> None:
    found = interval([sums([100.0] * 30)], largest=100)
    assert found is not None and found.mean == found.high == 100 and 80 < found.low < 98


def unclear(mean: float, reach: float, training: float = 0.0) -> Interval:
    return Interval(
        mean=mean, low=mean - math.hypot(reach, training), high=mean + math.hypot(reach, training),
        prompts=1000, below=reach, above=reach, training=training,
        errors=Errors(prompts=1.0, decoding=None, training=None),
    )  # fmt: skip


def test_an_interval_knows_how_many_prompts_more_would_settle_it() -> None:
    # twice too wide: four times the prompts
    assert unclear(1.5, 3.0).prompts_to_tell == unclear(-1.5, 3.0).prompts_to_tell == 3000
    # of 5 points 3 are the trainings' and 4 are left; a reach of 8 is twice that
    assert unclear(5.0, 8.0, training=3.0).prompts_to_tell == 3000
    assert unclear(1.0, 1.0000001).prompts_to_tell == 1
    for hopeless in (unclear(0.0, 3.0), unclear(2.0, 1.0, training=2.0), unclear(2.0, 1.0)):
        assert hopeless.prompts_to_tell is None


def test_with_the_prompts_that_it_asks_for_an_interval_is_clear() -> None:
    generator = np.random.default_rng(7)
    change = generator.permutation(np.repeat([100.0, -100.0, 0.0], [44, 36, 920]))
    found = paired(change, np.zeros(1000), largest=100)
    more = found.prompts_to_tell
    assert not found.is_clear and more is not None
    times = round(1.1 * (1000 + more) / 1000)
    again = paired(np.tile(change, times), np.zeros(1000 * times), largest=100)
    fewer = paired(np.tile(change, times // 2), np.zeros(1000 * (times // 2)), largest=100)
    assert again.is_clear and not fewer.is_clear


@pytest.mark.parametrize(
    "only",
    ["right or wrong, 50 ", "60 prompts", "3 seeds × 500 prompts × 2, training ± 5", "200 and 300"],
)
def test_intervals_cover_what_is_true(only: str, tmp_path: Path) -> None:
    """With few repetitions; benchmarks/coverage.py has more of them, and more cases."""
    path = tmp_path / "coverage.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "coverage.py"), "--repetitions", "50"]
    done = subprocess.run(
        [*command, "--only", only, "--json", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(path.read_text(encoding="utf-8"))
    assert found["covered"] >= 95 - 3 * 100 * math.sqrt(0.95 * 0.05 / 50)


def test_an_interval_is_the_same_each_time() -> None:
    change = np.random.default_rng(8).normal(size=50)
    first, second = (paired(change, np.zeros(50)) for _ in range(2))
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
