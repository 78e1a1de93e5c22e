"""distill: prompts with references, a teacher and a starting point → a distilled student.

The same stage also makes the control (from the student that was not warmed up) and heals a
student that was cut.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from warmup_distill.artifacts import read_parts
from warmup_distill.chat import encode_reference
from warmup_distill.config import CutSection, DistillSection
from warmup_distill.errors import DataError
from warmup_distill.models import cut_layers, load_model, save_model
from warmup_distill.records import Prompt
from warmup_distill.session import Session
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import fit
from warmup_distill.training.signals import TeacherSignals, write_signals
from warmup_distill.tree.model import TreeModel


def distill_warmed_up(session: Session) -> dict[str, int]:
    """Write distill/: the warmed-up student, distilled."""
    start = load_model(str(session.folder / "warmup"))
    return _distill(session, start, session.recipe.distill, session.folder / "distill")


def distill_control(session: Session) -> dict[str, int]:
    """Write control/: the student that was not warmed up, distilled in the same way."""
    start = load_model(session.student_name)
    return _distill(session, start, session.recipe.distill, session.folder / "control")


def cut_student(session: Session) -> dict[str, int]:
    """Write cut/: the recipe's student with some of its layers, healed by distillation."""
    section, folder = session.recipe.cut, session.folder / "cut"
    assert section is not None
    model = cut_layers(load_model(session.recipe.student), section.keep_layers)
    if not section.heal:
        save_model(model, session.tokenizer, folder)
        return {"rows": 0, "steps": 0}
    return _distill(session, model, section, folder)


def _distill(
    session: Session, start: PreTrainedModel, section: DistillSection, folder: Path
) -> dict[str, int]:
    prompts = list(read_parts(session.folder / "prompts", Prompt))
    rows = reference_rows(prompts, session.tokenizer, section.max_length)
    counts = fit(
        DistillTrainer,
        start,
        rows,
        section,
        folder,
        seed=session.recipe.seed,
        tokenizer=session.tokenizer,
        autocast=session.recipe.dtype == "bfloat16",
        teacher=None if section.objective == "sft" else session.teacher,
        vocabulary=session.vocabulary,
        objective=section.objective,
        cross_entropy_weight=section.cross_entropy_weight,
        temperature=section.temperature,
        signals=_signals(session, section, rows),
    )
    return counts | {"without_reference": len(prompts) - len(rows)}


def _signals(
    session: Session, section: DistillSection, rows: Sequence[dict[str, Any]]
) -> TeacherSignals | None:
    """The teacher's signal on disk; distillation and control share it."""
    if section.teacher_signal == "live":
        return None
    name = "cut" if isinstance(section, CutSection) else "distill"
    return write_signals(
        TreeModel(session.teacher, session.vocabulary),
        rows,
        session.folder / "signals" / name,
        section.teacher_signal,
        top_k=section.top_k,
        temperature=section.temperature,
        teacher_name=session.recipe.teacher,
    )


def reference_rows(
    prompts: Sequence[Prompt], tokenizer: Any, max_length: int
) -> list[dict[str, Any]]:
    """Prompts with their references as token ids; a cut reference gets no end-of-sequence."""
    rows: list[dict[str, Any]] = []
    for prompt in prompts:
        if prompt.reference is None:
            continue
        completion = encode_reference(tokenizer, prompt.reference)
        room = max_length - len(prompt.prompt_ids)
        if room > 0:
            ids = {"prompt_ids": prompt.prompt_ids, "completion_ids": completion[:room]}
            rows.append(ids | {"row": len(rows)})
    if not rows:
        raise DataError(
            f"expected prompts with a reference that fit into {max_length} tokens, but there are "
            "none. Name the column in prompts.reference_column, or raise max_length."
        )
    return rows
