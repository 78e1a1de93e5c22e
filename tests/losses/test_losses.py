"""Preference losses and the mixing of an objective, against values worked by hand."""

import math

import pytest
import torch

from warmup_distill.losses import Objective, cross_entropy, dpo

HALVES = torch.tensor([[[0.5, 0.5]]]).log()
NINE_TO_ONE = torch.tensor([[[0.9, 0.1]]]).log()
HERE = torch.tensor([[True]])


def test_cross_entropy_is_minus_the_log_probability() -> None:
    value = cross_entropy(NINE_TO_ONE, torch.tensor([[1]]), HERE)
    torch.testing.assert_close(value, torch.tensor([[-math.log(0.1)]]))


def test_the_objective_mixes_divergence_and_cross_entropy() -> None:
    # 0.75 · 0.5108 + 0.25 · ln 10 = 0.9588 nats
    objective = Objective(name="forward_kl", cross_entropy_weight=0.25)
    value = objective(HALVES, NINE_TO_ONE, torch.tensor([[1]]), HERE)
    torch.testing.assert_close(value, torch.tensor([[0.9588]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("squared", "factor"), [(False, 1), (True, 9)])
def test_temperature_squared_multiplies_the_divergence_alone(squared: bool, factor: int) -> None:
    # teacher ½, ½ stays; student 0.9^⅓ : 0.1^⅓ = 0.6753, 0.3247: ln(½/0.6753)/2 + ln(½/0.3247)/2
    objective = Objective(temperature=3.0, temperature_squared=squared, cross_entropy_weight=0.5)
    value = objective(HALVES, NINE_TO_ONE, torch.tensor([[1]]), HERE)
    expected = torch.tensor([[0.5 * factor * 0.06561 + 0.5 * math.log(10)]])
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)


def test_sft_is_cross_entropy_and_needs_no_teacher() -> None:
    value = Objective(name="sft")(None, NINE_TO_ONE, torch.tensor([[0]]), HERE)
    torch.testing.assert_close(value, torch.tensor([[-math.log(0.9)]]))


def test_dpo_is_ln_2_where_policy_and_reference_agree() -> None:
    chosen, rejected = torch.tensor([-3.0, -9.0]), torch.tensor([-4.0, -1.0])
    loss = dpo(chosen, rejected, chosen, rejected, beta=0.1)
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)))


def test_dpo_matches_a_value_worked_by_hand() -> None:
    # gain (−2 − −3) − (−5 − −4) = 2; β · 2 = 1; −ln σ(1) = ln(1 + e⁻¹) = 0.3133
    loss = dpo(*(torch.tensor([v]) for v in (-2.0, -5.0, -3.0, -4.0)), beta=0.5)
    torch.testing.assert_close(loss, torch.tensor([0.3133]), atol=1e-4, rtol=0)


def test_what_both_sides_share_cancels_in_dpo() -> None:
    sides = [torch.tensor([v]) for v in (-2.0, -5.0, -3.0, -4.0)]
    policy_shared, reference_shared = -7.0, -6.0
    shifted = [s + policy_shared for s in sides[:2]] + [s + reference_shared for s in sides[2:]]
    torch.testing.assert_close(dpo(*shifted, beta=0.5), dpo(*sides, beta=0.5))
