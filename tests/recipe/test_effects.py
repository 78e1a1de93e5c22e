"""Every field of the two trainings does something: change it, and what the trainer gets changes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from warmup_distill.ledger.ran import Ran
from warmup_distill.losses import DIVERGENCES, TaidSchedule
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.distillation import OBJECTIVES, DistillSection, ObjectiveOptions
from warmup_distill.recipe.training import TrainSection, WarmupSection
from warmup_distill.stages import controls, distill, distilling, warmup
from warmup_distill.stages.session import Session
from warmup_distill.training.fit import training_arguments

BASE: dict[str, Any] = {
    "teacher": "bundled:teacher",
    "student": "bundled:student",
    "prompts": {"dataset": "bundled:problems", "limit": 20},
    "rollouts": {"num_samples": 2, "max_new_tokens": 24},
}

TRAINING: dict[str, Any] = {
    "learning_rate": 0.5, "num_train_epochs": 3.0, "max_steps": 7,
    "per_device_train_batch_size": 3, "gradient_accumulation_steps": 5,
    "lr_scheduler_type": "cosine", "warmup_steps": 2, "weight_decay": 0.1, "max_grad_norm": 0.3,
    "activation_checkpointing": True, "save_steps": 9, "lora": {"r": 2}, "row_tokens": 99,
    "trainer": {"fsdp": True},
}  # fmt: skip
DISTILL: dict[str, Any] = TRAINING | {
    "objective": "reverse_kl", "options": {"form": "ce"}, "cross_entropy_weight": 0.5,
    "temperature": 2.0, "completions": {"student_share": 0.5}, "max_length": 60,
    "teacher_signal": "hidden",
}  # fmt: skip
NEED_ANOTHER: dict[str, dict[str, Any]] = {
    "temperature_squared": {"temperature": 2.0},
    "top_k": {"teacher_signal": "top_k"},
    "label_smoothing": {"loss": "robust"},
    "gamma": {"loss": "simpo"},
}
DISTILL |= {"temperature_squared": True, "top_k": 3, "limit": 3}
WARMUP: dict[str, Any] = TRAINING | {
    "beta": 2.0, "loss": "hinge", "label_smoothing": 0.1, "gamma": 0.5, "nll_weight": 0.5,
    "watch": {"prompts": 7},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with prompts and pairs."""
    folder = tmp_path_factory.mktemp("effects") / "run"
    with opened(Recipe.model_validate(BASE), folder) as session:
        for stage in ("prompts", "rollouts", "pairs"):
            run_stage(session, stage)
    return folder


def seen(
    stage: Any, section: str, values: dict[str, Any], folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:  # fmt: skip
    """Everything that the training of a stage is given, as text."""
    found: list[Any] = []

    def fake(
        trainer: Any, model: Any, rows: Any, section: TrainSection, *_: Any, **named: Any
    ) -> dict[str, int]:
        arguments = training_arguments(section, len(rows), 0, False, "scratch").to_dict()
        signals = named.pop("signals", None)
        kept = signals and {k: v.shape for k, v in signals.of([0], torch.device("cpu")).items()}
        for name in ("tokenizer", "teacher", "vocabulary"):
            named.pop(name, None)
        if watched := named.pop("watched", None):
            named["watch"] = watched.section, watched.prompts
        arguments.pop("logging_dir", None)
        found.append((rows, arguments, section.lora, kept, named))
        return {"ran": Ran().state(), "adapters": 0}

    monkeypatch.setattr(distilling if stage is distill else stage, "fit", fake)
    session = Session(folder, Recipe.model_validate(BASE | {section: values}))
    (controls.distill_control if stage is distill else warmup.train_warmup)(session)
    return repr(found)


@pytest.mark.parametrize("field", DistillSection.model_fields)
def test_every_field_of_distill_has_an_effect(
    field: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = NEED_ANOTHER.get(field, {})
    after = before | {field: DISTILL[field]}
    results = [seen(distill, "distill", v, folder, monkeypatch) for v in (before, after)]
    assert results[0] != results[1]


@pytest.mark.parametrize("field", WarmupSection.model_fields)
def test_every_field_of_warmup_has_an_effect(
    field: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = NEED_ANOTHER.get(field, {})
    after = before | {field: WARMUP[field]}
    results = [seen(warmup, "warmup", v, folder, monkeypatch) for v in (before, after)]
    assert results[0] != results[1]


OPTIONS: dict[str, Any] = {
    "form": "ce", "reverse_share": 0.9, "mixture": 0.2, "convention": "distillm", "skew": 0.3,
    "detach_mixture": True, "head_mass": 0.8, "variant": "dskd", "alpha": 0.2, "beta": 0.7,
    "first_weight": "teacher", "second_weight": "uniform", "t_start": 0.1, "t_end": 0.5,
    "rate": 0.3, "momentum": 0.1,
}  # fmt: skip
PAIRS = [(name, option) for name, options in OBJECTIVES.items() for option in options]


def test_every_option_is_tried() -> None:
    assert set(OPTIONS) == set(ObjectiveOptions.model_fields)


@pytest.mark.parametrize(("objective", "option"), PAIRS)
def test_every_option_has_an_effect(objective: str, option: str) -> None:
    base = {"mixture": 0.3} if option == "convention" else {}
    results = [outcome(objective, base | extra) for extra in ({}, {option: OPTIONS[option]})]
    assert not torch.equal(*results)


def outcome(objective: str, options: dict[str, Any]) -> torch.Tensor:
    """Value and gradient of a divergence, or the course of TAID's schedule."""
    if objective == "taid":
        schedule = TaidSchedule(**options)
        course = []
        for step, loss in enumerate((3.0, 2.0, 2.0, 1.0)):
            schedule.update(loss, 1e-5 * step if step < 3 else 1.0)
            course.append(schedule.t)
        return torch.tensor(course)
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 1, 4, 11, generator=generator)
    student.requires_grad_(True)
    value = DIVERGENCES[objective](teacher, student, torch.ones(1, 4).bool(), **options)
    value.sum().backward()
    return torch.cat([value.detach().flatten(), student.grad.flatten()])
