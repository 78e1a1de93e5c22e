"""Losses against values worked by hand and against properties that must hold."""

import math

import pytest
import torch
import torch.nn.functional as F

from warmup_distill.losses import (
    DIVERGENCES,
    cross_entropy,
    distillation,
    dpo,
    forward_kl,
    reverse_kl,
)

HALVES = torch.tensor([[[0.5, 0.5]]]).log()
NINE_TO_ONE = torch.tensor([[[0.9, 0.1]]]).log()
HERE = torch.tensor([[True]])

names = pytest.mark.parametrize("name", DIVERGENCES)


def random_logits(seed: int, *, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, 5, 11, generator=generator)).requires_grad_(grad)


def test_forward_kl_matches_a_value_worked_by_hand() -> None:
    # teacher (1/2, 1/2), student (9/10, 1/10): ln(5/9)/2 + ln(5)/2 = 0.5108 nats
    value = forward_kl(HALVES, NINE_TO_ONE, HERE)
    torch.testing.assert_close(value, torch.tensor([[0.5108]]), atol=1e-4, rtol=0)


def test_reverse_kl_matches_a_value_worked_by_hand() -> None:
    # student (9/10, 1/10), teacher (1/2, 1/2): 0.9 ln(1.8) + 0.1 ln(0.2) = 0.3681 nats
    value = reverse_kl(HALVES, NINE_TO_ONE, HERE)
    torch.testing.assert_close(value, torch.tensor([[0.3681]]), atol=1e-4, rtol=0)


def test_both_directions_agree_with_torch() -> None:
    teacher, student = random_logits(1), random_logits(2)
    mask = torch.ones(2, 5, dtype=torch.bool)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    forward = F.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    reverse = F.kl_div(p, q, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(forward_kl(teacher, student, mask), forward)
    torch.testing.assert_close(reverse_kl(teacher, student, mask), reverse)


@names
def test_temperature_divides_both_logits(name: str) -> None:
    mask = torch.ones(2, 5, dtype=torch.bool)
    loss, teacher, student = DIVERGENCES[name], random_logits(1), random_logits(2)
    torch.testing.assert_close(
        loss(teacher, student, mask, temperature=2.0), loss(teacher / 2, student / 2, mask)
    )


@names
def test_equal_distributions_give_zero_with_a_zero_gradient(name: str) -> None:
    student = random_logits(1, grad=True)
    value = DIVERGENCES[name](random_logits(1), student, torch.ones(2, 5, dtype=torch.bool))
    value.sum().backward()
    torch.testing.assert_close(value, torch.zeros(2, 5), atol=1e-6, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros(2, 5, 11), atol=1e-6, rtol=0)


@names
def test_a_constant_added_to_all_logits_changes_nothing(name: str) -> None:
    mask = torch.ones(2, 5, dtype=torch.bool)
    loss, teacher, student = DIVERGENCES[name], random_logits(1), random_logits(2)
    torch.testing.assert_close(
        loss(teacher + 7, student - 5, mask), loss(teacher, student, mask), atol=1e-5, rtol=1e-5
    )


@names
def test_masked_positions_give_neither_value_nor_gradient(name: str) -> None:
    student = random_logits(2, grad=True)
    mask = torch.tensor([[False, False, True, True, True], [False] * 5])
    value = DIVERGENCES[name](random_logits(1), student, mask)
    value.sum().backward()
    assert (value[~mask] == 0).all() and (student.grad[~mask] == 0).all()
    assert (value[mask] > 0).all() and (student.grad[mask] != 0).any()


@names
def test_a_token_that_the_teacher_forbids_leaves_gradients_finite(name: str) -> None:
    teacher, student = random_logits(1), random_logits(2, grad=True)
    teacher[..., 0] = -torch.inf
    value = DIVERGENCES[name](teacher, student, torch.ones(2, 5, dtype=torch.bool))
    if name == "forward_kl":
        value.sum().backward()
        assert value.isfinite().all() and student.grad.isfinite().all()
    else:  # KL(student ‖ teacher) is infinite where the teacher gives no probability at all
        assert value.isposinf().all()


@names
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    teacher, student = random_logits(1, grad=True), random_logits(2, grad=True)
    DIVERGENCES[name](teacher, student, torch.ones(2, 5, dtype=torch.bool)).sum().backward()
    assert teacher.grad is None


def test_vocabularies_of_unlike_size_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"teacher \[2, 3, 7\], student \[2, 3, 5\]"):
        forward_kl(torch.zeros(2, 3, 7), torch.zeros(2, 3, 5), torch.ones(2, 3).bool())


def test_cross_entropy_is_minus_the_log_probability() -> None:
    value = cross_entropy(NINE_TO_ONE, torch.tensor([[1]]), HERE)
    torch.testing.assert_close(value, torch.tensor([[-math.log(0.1)]]))


def test_the_objective_mixes_divergence_and_cross_entropy() -> None:
    # 0.75 · 0.5108 + 0.25 · ln 10 = 0.9588 nats
    value = distillation(
        "forward_kl", HALVES, NINE_TO_ONE, torch.tensor([[1]]), HERE,
        cross_entropy_weight=0.25, temperature=1.0,
    )  # fmt: skip
    torch.testing.assert_close(value, torch.tensor([[0.9588]]), atol=1e-4, rtol=0)


def test_sft_is_cross_entropy_and_needs_no_teacher() -> None:
    value = distillation(
        "sft", None, NINE_TO_ONE, torch.tensor([[0]]), HERE,
        cross_entropy_weight=0.0, temperature=1.0,
    )  # fmt: skip
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
