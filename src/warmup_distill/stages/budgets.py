"""What a control may cost, and how many optimizer steps that is.

Steps are reckoned ahead, for the schedule of the learning rate needs their number: by the control's
own rows, and for one of equal compute by what the distillation took for each token that it trained
on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from warmup_distill.ledger.costs import costs, total
from warmup_distill.ledger.passes import NOTHING, Pass, training_operations
from warmup_distill.ledger.paths import went_into
from warmup_distill.models.loading import blank_model
from warmup_distill.recipe import DistillSection
from warmup_distill.stages.distilling import Material
from warmup_distill.stages.session import Session
from warmup_distill.store.manifest import Manifest
from warmup_distill.training.adapters import with_lora


def distillation(session: Session) -> Mapping[str, Any]:
    """What the manifest says of the distillation of the student that was warmed up."""
    return Manifest(session.folder).entries["distill"]


def cost_of_warmup(session: Session) -> int:
    """Operations that the warm-up adds: its own, and the rollouts if nothing else needs them."""
    others = ["rollouts"] if session.recipe.distill.completions.source == "rollouts" else []
    return _spent(session, ["warmup"]) - _spent(session, [*session.student_stages, *others])


def steps_with_warmup(session: Session, section: DistillSection, given: Material) -> int:
    """Optimizer steps of a distillation that costs what the one with the warm-up cost in all.

    Args:
        given: what both are distilled on.
    """
    entry = distillation(session)
    ahead = total(costs(given.passes | given.signalled(section), session.sizes))
    besides = _spent(session, [*session.student_stages, *given.uses])
    left = _spent(session, ["distill"]) - besides - ahead
    tokens = _trained(entry)["tokens"]
    per_token = (_own(entry) - ahead) / tokens
    if section.completions.from_student:  # whose completions nobody knows before
        return _steps(left, per_token * tokens / entry["counts"]["steps"])
    return _steps(left, per_token * _per_step(section, given))


def steps_without_teacher(
    session: Session, section: DistillSection, given: Material, operations: int
) -> int:
    """Optimizer steps on rows by cross-entropy alone that cost so much."""
    again = given.whole if section.activation_checkpointing else NOTHING
    again = Pass(tokens=again.tokens, keys=again.keys)
    sizes, adapters = session.sizes["student"], _adapters(session, section)
    whole = training_operations(given.whole, again, sizes, adapters)
    return _steps(operations, whole / _steps_of_an_epoch(section, given))


def _steps(operations: int, per_step: float) -> int:
    return max(1, round(operations / per_step))


def _per_step(section: DistillSection, given: Material) -> float:
    """Tokens of an optimizer step, in the mean over all rows."""
    return given.whole.tokens / _steps_of_an_epoch(section, given)


def _steps_of_an_epoch(section: DistillSection, given: Material) -> int:
    batch = section.per_device_train_batch_size * section.gradient_accumulation_steps
    return math.ceil(len(given.rows) / batch)


def _adapters(session: Session, section: DistillSection) -> int:
    """Numbers of a training's low-rank adapters; 0 where all weights are trained."""
    if section.lora is None:
        return 0
    adapted = with_lora(blank_model(session.student_name), section.lora)
    return int(adapted.num_parameters(only_trainable=True))


def _trained(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {one["work"]: one for one in entry["cost"]}["train"]
    return found


def _own(entry: Mapping[str, Any]) -> int:
    return sum(one["operations"] for one in entry["cost"])


def _spent(session: Session, stages: Sequence[str]) -> int:
    """Operations of stages that are complete, and of all that they use."""
    found = went_into(Manifest(session.folder).entries, stages)
    assert found is not None  # `open_run` has those of earlier versions done again
    return found
