"""Means over prompts: values worked by hand."""

import numpy as np
import pytest

from warmup_distill.scoring.statistics import Measured, Sum, shares


def measured(*prompts: tuple[tuple[float, float], ...]) -> Measured:
    return {
        f"p{number}": [Sum(*one) for one in completions]
        for number, completions in enumerate(prompts)
    }


def test_shares_of_scores_are_the_scores() -> None:
    found = shares([measured(((0, 1), (100, 1)), ((100, 1), (100, 1)))])
    assert found.tolist() == [[[0, 100], [100, 100]]]


def test_the_mean_of_the_shares_is_the_ratio_of_the_totals_of_each_seed() -> None:
    # 1 + 6 nats over 2 + 5 tokens; 4 + 4 over 4 + 1
    found = shares([measured(((1, 2),), ((6, 5),)), measured(((4, 4),), ((4, 1),))])
    assert found.mean(axis=(1, 2)) == pytest.approx([7 / 7, 8 / 5])


def test_prompts_are_known_by_their_names_and_not_by_their_order() -> None:
    one = measured(((1, 1),), ((2, 1),), ((3, 1),))
    assert np.array_equal(shares([one]), shares([dict(reversed(one.items()))]))


def test_prompts_with_unlike_numbers_of_completions_count_alike() -> None:
    found = shares([measured(((0, 1), (100, 1)), ((100, 1),))])
    assert found.tolist() == [[[50], [100]]]
