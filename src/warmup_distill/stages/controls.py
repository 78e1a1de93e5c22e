"""Controls: students that were not warmed up → what the warm-up is held against.

See `recipe.controls`. Each is distilled as the section `distill` says, but for what its name says.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from warmup_distill.engines.randomness import stream
from warmup_distill.ledger.costs import costs, total
from warmup_distill.ledger.counting import Passes
from warmup_distill.ledger.passes import NOTHING
from warmup_distill.models.loading import load_model
from warmup_distill.recipe import DistillSection
from warmup_distill.recipe.distillation import CompletionsSection, ObjectiveOptions
from warmup_distill.records import Prompt
from warmup_distill.stages.budgets import (
    cost_of_warmup,
    distillation,
    steps_with_warmup,
    steps_without_teacher,
)
from warmup_distill.stages.distilling import Material, distil, from_rollouts, material, taught
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts
from warmup_distill.training.data import completion_rows

logger = logging.getLogger(__name__)

SUPERVISED: dict[str, Any] = {
    "objective": "sft",
    "options": ObjectiveOptions(),
    "cross_entropy_weight": 0.0,
    "temperature": 1.0,
    "temperature_squared": False,
    "completions": CompletionsSection(source="teacher"),
    "limit": None,
    "teacher_signal": "live",
}
"""What makes a distillation cross-entropy with given completions alone."""


def distill_control(session: Session) -> dict[str, Any]:
    """Write control/: distilled in the same way."""
    section = session.recipe.distill
    return _distil(session, "control", section, material(session, section, "control"))


def distill_for_longer(session: Session) -> dict[str, Any]:
    """Write control_compute/: distilled until it has cost as much as with the warm-up."""
    stage, section = "control_compute", session.recipe.distill
    given = material(session, section, stage)
    steps = steps_with_warmup(session, section, given)
    return _distil(session, stage, _in_steps(section, steps), given)


def distill_corrected(session: Session) -> dict[str, Any]:
    """Write control_corrected/: distilled in as many steps on corrected completions."""
    stage, section = "control_corrected", session.recipe.distill
    source = section.completions.model_copy(update={"source": "rollouts"})
    section = section.model_copy(update={"completions": source, "limit": None})
    prompts = list(read_parts(session.folder / "prompts", Prompt))
    given = from_rollouts(session, section, prompts, owner=stage)
    steps = distillation(session)["counts"]["steps"]
    return _distil(session, stage, _in_steps(section, steps), given)


def start_cold(session: Session) -> dict[str, Any]:
    """Write cold_start/: trained on the teacher's completions for what the warm-up cost.

    Source: the off-policy cold start of Zuo et al. 2026, arXiv:2604.13016.
    """
    stage, budget = "cold_start", cost_of_warmup(session)
    if not budget:
        session.save(load_model(session.student_name), stage)
        session.charge(stage, [], session.student_stages)
        return {"rows": 0, "steps": 0}
    section = session.recipe.distill.model_copy(update=SUPERVISED)
    given = _cold_material(session, section, budget)
    left = budget - total(costs(given.passes, session.sizes))
    if left < 0:
        logger.warning(
            "cold_start: one completion of the teacher for each prompt costs more than the whole "
            "warm-up, so this control costs more than it should; the table says how much."
        )
    steps = steps_without_teacher(session, section, given, left)
    return _distil(session, stage, _in_steps(section, steps), given)


def distill_cold_started(session: Session) -> dict[str, Any]:
    """Write control_cold_start/: the student that was started cold, distilled in the same way."""
    stage, section = "control_cold_start", session.recipe.distill
    given = material(session, section, stage)
    return distil(
        session, section, stage, str(session.folder / "cold_start"), given, ["cold_start"]
    )


def _distil(
    session: Session, stage: str, section: DistillSection, given: Material
) -> dict[str, Any]:
    """From the student that was not warmed up."""
    return distil(session, section, stage, session.student_name, given, session.student_stages)


def _in_steps(section: DistillSection, steps: int) -> DistillSection:
    return section.model_copy(update={"max_steps": steps})


def _cold_material(session: Session, section: DistillSection, budget: int) -> Material:
    """Completions of the teacher, one for each prompt that was rolled out, then another, until half
    of the budget is spent, or each has as many as rollouts."""
    settings = session.recipe.rollouts
    prompts = list(read_parts(session.folder / "prompts", Prompt))[: settings.limit]
    found: dict[str, list[list[int]]] = {prompt.prompt_id: [] for prompt in prompts}
    passes: Passes = {("teacher", "sample"): NOTHING}
    most = settings.num_samples if settings.continuation_temperature else 1  # else all are alike
    for number in range(most):
        drawn, ran = _another(session, prompts, number)
        for name, ids in drawn.items():
            found[name].append(ids)
        passes["teacher", "sample"] += ran["teacher", "sample"]
        if 2 * total(costs(passes, session.sizes)) >= budget:
            break
    rows = completion_rows(prompts, found, section.max_length)
    drawn_in_all = sum(map(len, found.values()))
    counts = {"completions": drawn_in_all, "left_out": drawn_in_all - len(rows)}
    return Material(rows=rows, passes=passes, uses=[], counts=counts, owner="cold_start")


def _another(
    session: Session, prompts: Sequence[Prompt], number: int
) -> tuple[dict[str, list[int]], Passes]:
    settings, seed = session.recipe.rollouts, session.recipe.seed
    return taught(
        session,
        "cold_start",
        prompts,
        f"cold_start-{number}",
        key=partial(stream, seed, "cold_start", number),
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.continuation_temperature,
    )
