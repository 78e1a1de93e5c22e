"""distill: prompts with completions, a teacher and a starting point → a distilled student.

The same also heals a student that was cut.
"""

from functools import partial
from typing import Any

from transformers import PreTrainedModel

from warmup_distill.models.cutting import cut_layers
from warmup_distill.models.loading import load_model
from warmup_distill.stages.distilling import distil, material
from warmup_distill.stages.session import Session


def distill_warmed_up(session: Session) -> dict[str, Any]:
    """Write distill/: the warmed-up student, distilled."""
    section, name = session.recipe.distill, str(session.folder / "warmup")
    given = material(session, section, "distill")
    return distil(session, section, "distill", name, given, ["warmup"])


def cut_student(session: Session) -> dict[str, Any]:
    """Write cut/: the recipe's student with some of its layers, healed by distillation."""
    section, name = session.recipe.cut, session.recipe.student
    assert section is not None
    load = partial(_cut, keep_layers=section.keep_layers)
    if not section.heal:
        session.save(load(name), "cut")
        session.charge("cut", [])
        return {"rows": 0, "steps": 0}
    return distil(session, section, "cut", name, material(session, section, "cut"), [], load)


def _cut(name: str, keep_layers: list[int]) -> PreTrainedModel:
    return cut_layers(load_model(name), keep_layers)
