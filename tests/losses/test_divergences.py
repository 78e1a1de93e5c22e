"""Divergences against high-precision arithmetic, TRL's code, and properties that must hold."""

import inspect
from typing import Any

import mpmath
import pytest
import torch
import torch.nn.functional as F
from mpmath import log, mpf

from warmup_distill.losses import DIVERGENCES, TaidSchedule, forward_kl, jensen_shannon, reverse_kl
from warmup_distill.recipe.distillation import OBJECTIVES, ObjectiveOptions

P = [mpf("0.45"), mpf("0.35"), mpf("0.2")]
Q = [mpf("0.2"), mpf("0.2"), mpf("0.6")]
HERE = torch.tensor([[True]])


def logits(probabilities: list[Any]) -> torch.Tensor:
    return torch.tensor([[[float(p) for p in probabilities]]]).log()


def kl(a: list[Any], b: list[Any]) -> Any:
    return sum(x * log(x / y) for x, y in zip(a, b, strict=True))


def entropy(a: list[Any], b: list[Any]) -> Any:
    return -sum(x * log(y) for x, y in zip(a, b, strict=True))


def blend(share: Any, a: list[Any], b: list[Any]) -> list[Any]:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def ab(alpha: Any, beta: Any) -> Any:
    terms = (
        p**alpha * q**beta
        - alpha / (alpha + beta) * p ** (alpha + beta)
        - beta / (alpha + beta) * q ** (alpha + beta)
        for p, q in zip(P, Q, strict=True)
    )
    return -sum(terms) / (alpha * beta)


def concrete(first: list[Any], second: list[Any]) -> Any:
    """The double sum as the paper has it."""
    gaps = [log(q / p) for p, q in zip(P, Q, strict=True)]
    return (
        sum(first[x] * second[y] * (gaps[x] - gaps[y]) ** 2 for x in range(3) for y in range(3)) / 2
    )


def on_the_way(t: Any) -> list[Any]:
    weights = [q ** (1 - t) * p**t for p, q in zip(P, Q, strict=True)]
    return [w / sum(weights) for w in weights]


UNIFORM = [mpf(1) / 3] * 3
TENTH, TINY = mpf("0.1"), mpf("1e-12")
mpmath.mp.dps = 40

GOLDEN: list[tuple[str, dict[str, Any], Any]] = [
    ("forward_kl", {}, kl(P, Q)),
    ("forward_kl", {"form": "ce"}, entropy(P, Q)),
    ("reverse_kl", {}, kl(Q, P)),
    ("symmetric_kl", {}, (kl(P, Q) + kl(Q, P)) / 2),
    ("symmetric_kl", {"reverse_share": 0.9}, TENTH * kl(P, Q) + 9 * TENTH * kl(Q, P)),
    ("total_variation", {}, mpf("0.4")),
    (
        "jensen_shannon", {"mixture": 0.1},
        TENTH * kl(P, blend(TENTH, P, Q)) + 9 * TENTH * kl(Q, blend(TENTH, P, Q)),
    ),
    # DistiLLM's λ = 0.9 is GKD's β = 0.1
    (
        "jensen_shannon", {"mixture": 0.9, "convention": "distillm"},
        TENTH * kl(P, blend(TENTH, P, Q)) + 9 * TENTH * kl(Q, blend(TENTH, P, Q)),
    ),
    (
        "jensen_shannon", {"mixture": 0.9, "convention": "kdflow"},
        TENTH * kl(P, blend(TENTH, P, Q)) + 9 * TENTH * kl(Q, blend(TENTH, P, Q)),
    ),
    ("jensen_shannon", {"mixture": 0.0}, kl(P, Q)),
    ("jensen_shannon", {"mixture": 1.0}, kl(Q, P)),
    ("skewed_forward_kl", {}, kl(P, blend(TENTH, P, Q))),
    ("skewed_forward_kl", {"form": "ce"}, entropy(P, blend(TENTH, P, Q))),
    ("skewed_reverse_kl", {}, kl(Q, blend(TENTH, Q, P))),
    ("skewed_reverse_kl", {"detach_mixture": True}, kl(Q, blend(TENTH, Q, P))),
    # gaps 0.25, 0.15, 0.4; the second token crosses ½: tail in the paper's code, head in DSKD's
    ("adaptive_kl", {}, (25 * kl(P, Q) + 55 * kl(Q, P)) / 80),
    ("adaptive_kl", {"variant": "dskd"}, (kl(P, Q) + kl(Q, P)) / 2),
    ("alpha_beta", {}, ab(mpf("0.5"), mpf("0.5"))),
    ("alpha_beta", {"alpha": 0.2, "beta": 0.7}, ab(mpf("0.2"), mpf("0.7"))),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}, kl(P, Q)),
    ("alpha_beta", {"alpha": 0.0, "beta": 1.0}, kl(Q, P)),
    ("alpha_beta", {"alpha": 0.5, "beta": 0.0}, ab(mpf("0.5"), TINY)),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.5}, ab(TINY, mpf("0.5"))),
    ("alpha_beta", {"alpha": 0.5, "beta": -0.5}, ab(mpf("0.5"), mpf("-0.5") + TINY)),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}, ab(TINY, TINY / 3)),
    ("concrete_score", {}, concrete(Q, Q)),
    ("concrete_score", {"first_weight": "teacher", "second_weight": "uniform"},
     concrete(P, UNIFORM)),
    ("concrete_score", {"second_weight": "teacher"}, concrete(Q, P)),
    ("taid", {"t": 0.4}, entropy(on_the_way(mpf("0.4")), Q)),
    ("taid", {"t": 1.0}, entropy(P, Q)),
]  # fmt: skip

CASES = [(name, options) for name, options, _ in GOLDEN]
KEEP_ENTROPY = [c for c in CASES if c[0] == "taid" or c[1].get("form") == "ce"]
cases = pytest.mark.parametrize(("name", "options"), CASES)


def random_logits(seed: int, *, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, 5, 11, generator=generator)).requires_grad_(grad)


@pytest.mark.parametrize(("name", "options", "expected"), GOLDEN)
def test_a_divergence_has_the_value_of_high_precision_arithmetic(
    name: str, options: dict[str, Any], expected: Any
) -> None:
    value = DIVERGENCES[name](logits(P), logits(Q), HERE, **options)
    assert value.item() == pytest.approx(float(expected), rel=2e-6)


def test_every_divergence_has_a_golden_value() -> None:
    assert {name for name, _ in CASES} == set(DIVERGENCES)


def test_both_directions_agree_with_torch() -> None:
    teacher, student = random_logits(1), random_logits(2)
    mask = torch.ones(2, 5, dtype=torch.bool)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    forward = F.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    reverse = F.kl_div(p, q, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(forward_kl(teacher, student, mask), forward)
    torch.testing.assert_close(reverse_kl(teacher, student, mask), reverse)


@pytest.mark.parametrize("mixture", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_jensen_shannon_is_that_of_trl(mixture: float, temperature: float) -> None:
    gkd = pytest.importorskip("trl.experimental.gkd")
    teacher, student = random_logits(1), random_logits(2)
    ours = jensen_shannon(
        teacher, student, torch.ones(2, 5).bool(), mixture=mixture, temperature=temperature
    )
    theirs = gkd.GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=mixture, temperature=temperature, reduction="none"
    )
    torch.testing.assert_close(ours, theirs.sum(-1), atol=1e-5, rtol=1e-5)


@cases
def test_temperature_divides_both_logits(name: str, options: dict[str, Any]) -> None:
    mask = torch.ones(2, 5, dtype=torch.bool)
    loss, teacher, student = DIVERGENCES[name], random_logits(1), random_logits(2)
    torch.testing.assert_close(
        loss(teacher, student, mask, temperature=2.0, **options),
        loss(teacher / 2, student / 2, mask, **options),
    )


@cases
def test_equal_distributions_give_zero_with_a_zero_gradient(
    name: str, options: dict[str, Any]
) -> None:
    student = random_logits(1, grad=True)
    mask = torch.ones(2, 5, dtype=torch.bool)
    value = DIVERGENCES[name](random_logits(1), student, mask, **options)
    value.sum().backward()
    p = random_logits(1).softmax(-1)
    rest = -(p * p.log()).sum(-1) if (name, options) in KEEP_ENTROPY else torch.zeros(2, 5)
    torch.testing.assert_close(value.detach(), rest, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(student.grad, torch.zeros(2, 5, 11), atol=1e-6, rtol=0)


@cases
def test_a_constant_added_to_all_logits_changes_nothing(name: str, options: dict[str, Any]) -> None:
    mask = torch.ones(2, 5, dtype=torch.bool)
    loss, teacher, student = DIVERGENCES[name], random_logits(1), random_logits(2)
    torch.testing.assert_close(
        loss(teacher + 7, student - 5, mask, **options), loss(teacher, student, mask, **options),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip


@cases
def test_masked_positions_give_neither_value_nor_gradient(
    name: str, options: dict[str, Any]
) -> None:
    student = random_logits(2, grad=True)
    mask = torch.tensor([[False, False, True, True, True], [False] * 5])
    value = DIVERGENCES[name](random_logits(1), student, mask, **options)
    value.sum().backward()
    assert (value[~mask] == 0).all() and (student.grad[~mask] == 0).all()
    assert (value[mask] > 0).all() and (student.grad[mask] != 0).any()


@pytest.mark.parametrize(
    "name",
    ["forward_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl", "total_variation",
     "alpha_beta"],
)  # fmt: skip
def test_a_token_that_the_teacher_forbids_leaves_gradients_finite(name: str) -> None:
    teacher, student = random_logits(1), random_logits(2, grad=True)
    teacher[..., 0] = -torch.inf
    value = DIVERGENCES[name](teacher, student, torch.ones(2, 5, dtype=torch.bool))
    value.sum().backward()
    assert value.isfinite().all() and student.grad.isfinite().all()


def test_reverse_kl_is_infinite_where_the_teacher_forbids_a_token() -> None:
    teacher = random_logits(1)
    teacher[..., 0] = -torch.inf
    assert reverse_kl(teacher, random_logits(2), torch.ones(2, 5).bool()).isposinf().all()


@cases
def test_no_gradient_reaches_the_teacher(name: str, options: dict[str, Any]) -> None:
    teacher, student = random_logits(1, grad=True), random_logits(2, grad=True)
    mask = torch.ones(2, 5, dtype=torch.bool)
    DIVERGENCES[name](teacher, student, mask, **options).sum().backward()
    assert teacher.grad is None


def test_a_held_mixture_changes_the_gradient_and_not_the_value() -> None:
    gradients = []
    for detach in (False, True):
        student = random_logits(2, grad=True)
        mask = torch.ones(2, 5, dtype=torch.bool)
        DIVERGENCES["skewed_reverse_kl"](
            random_logits(1), student, mask, detach_mixture=detach
        ).sum().backward()
        gradients.append(student.grad)
    assert not torch.allclose(*gradients)


def test_vocabularies_of_unlike_size_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"teacher \[2, 3, 7\], student \[2, 3, 5\]"):
        forward_kl(torch.zeros(2, 3, 7), torch.zeros(2, 3, 5), torch.ones(2, 3).bool())


def test_the_recipe_knows_every_objective_and_its_options() -> None:
    common = {"teacher_logits", "student_logits", "mask", "temperature", "t"}
    for name, options in OBJECTIVES.items():
        if name == "sft":
            assert not options
            continue
        parts = [DIVERGENCES[name]] + ([TaidSchedule] if name == "taid" else [])
        takes = {p for part in parts for p in inspect.signature(part).parameters}
        assert takes - common == set(options), name
    assert {o for options in OBJECTIVES.values() for o in options} == set(
        ObjectiveOptions.model_fields
    )


def test_taid_moves_by_the_fall_of_the_loss_and_at_least_along_the_line() -> None:
    schedule = TaidSchedule(t_start=0.4, t_end=0.9, rate=0.5, momentum=0.9)
    schedule.update(2.0, 0.1)
    assert schedule.t == 0.4  # the first loss only sets the mark
    schedule.update(1.0, 0.2)
    # fall ½, trend 0.05, σ(0.05) = 0.51250; 0.5 · 0.5125 · 0.6 = 0.15375; the line is at 0.5
    assert schedule.t == pytest.approx(0.55375, abs=1e-5)
    schedule.update(1.0, 0.5)
    # no fall: trend 0.045, σ = 0.51125; 0.5 · 0.51125 · 0.44625 = 0.11407; the line is at 0.65
    assert schedule.t == pytest.approx(0.66782, abs=1e-5)
    schedule.update(1.0, 0.95)
    assert schedule.t == pytest.approx(0.875, abs=1e-5)  # the line
    schedule.update(1.0, 1.0)
    assert schedule.t == 0.9
