"""distill: prompts with completions, a teacher and a starting point → a distilled student.

The same stage also makes the control (from the student that was not warmed up) and heals a
student that was cut.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from warmup_distill.cluster.places import StepMeter
from warmup_distill.engines.fitting import Texts
from warmup_distill.engines.progress import StepProgress
from warmup_distill.models.cutting import cut_layers
from warmup_distill.models.heads import load_head
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import load_config, load_model
from warmup_distill.models.saving import save_model
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import CutSection, DistillSection
from warmup_distill.records import Prompt
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts
from warmup_distill.training.completions import StudentShare
from warmup_distill.training.data import (
    completion_rows,
    known_rows,
    require_rows_to_train,
    teacher_completions,
)
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import fit, scratch_of
from warmup_distill.training.signalling import Signalling, write_signals
from warmup_distill.training.signals import TeacherSignals
from warmup_distill.tree.heads import Head


def distill_warmed_up(session: Session) -> dict[str, int]:
    """Write distill/: the warmed-up student, distilled."""
    name = str(session.folder / "warmup")
    return _distill(session, partial(load_model, name), name, session.recipe.distill, "distill")


def distill_control(session: Session) -> dict[str, int]:
    """Write control/: the student that was not warmed up, distilled in the same way."""
    name = session.student_name
    return _distill(session, partial(load_model, name), name, session.recipe.distill, "control")


def cut_student(session: Session) -> dict[str, int]:
    """Write cut/: the recipe's student with some of its layers, healed by distillation."""
    section, name = session.recipe.cut, session.recipe.student
    assert section is not None
    start = partial(_cut, name, section.keep_layers)
    if not section.heal:
        folder = session.folder / "cut"
        save_model(start(), session.tokenizer, folder, session.vocabulary, session.saved_dtype)
        return {"rows": 0, "steps": 0}
    return _distill(session, start, name, section, "cut")


def _cut(name: str, keep_layers: list[int]) -> PreTrainedModel:
    return cut_layers(load_model(name), keep_layers)


def _distill(
    session: Session,
    start: Callable[[], PreTrainedModel],
    name: str,
    section: DistillSection,
    stage: str,
) -> dict[str, int]:
    """Distil a model, which `start` loads by its name, into the folder of a stage."""
    prompts = list(read_parts(session.folder / "prompts", Prompt))
    rows = _rows(session, section, prompts, stage)
    share = _student_share(session, section, rows)
    trained = rows[: len(rows) - len(share.validation)] if share else rows
    signals = _signals(session, section, rows)
    live = section.teacher_signal == "live" and section.objective != "sft"
    teacher = session.teacher_ref if live else None
    row_tokens = session.row_tokens(stage, section, name, [teacher] if teacher else [])
    folder = (session.folder / stage).absolute()
    learn = partial(
        _learn,
        start=start,
        teacher=teacher,
        head=session.teacher_ref if signals and signals.need_head else None,
        rows=trained,
        section=section,
        folder=folder,
        seed=session.recipe.seed,
        tokenizer=session.tokenizer,
        autocast=session.recipe.dtype == "bfloat16",
        saved_dtype=session.saved_dtype,
        origin=session.origin(stage, name),
        vocabulary=session.vocabulary,
        objective=section.objective,
        options=section.options.given(),
        cross_entropy_weight=section.cross_entropy_weight,
        temperature=section.temperature,
        temperature_squared=section.temperature_squared,
        student_share=share,
        signals=signals,
        row_tokens=row_tokens,
    )
    with StepProgress(stage) as progress:
        counts = session.place.train(learn, scratch_of(folder), progress)
    return counts | {"left_out": len(prompts) - len(rows)}


def _learn(
    held: Held,
    meter: StepMeter,
    *,
    start: Callable[[], PreTrainedModel],
    teacher: ModelRef | None,
    head: ModelRef | None,
    vocabulary: Vocabulary,
    **arguments: Any,
) -> dict[str, int]:
    """The body of the training, in every process that takes part.

    Args:
        teacher: loaded whole, or None; nothing else is held.
        head: the model whose head alone reads hidden states that are on disk, or None.
    """
    loaded = held.take(*([teacher] if teacher else []))
    return fit(
        DistillTrainer,
        start(),
        teacher=loaded[0] if loaded else None,
        teacher_head=_head(head, vocabulary) if head else None,
        vocabulary=vocabulary,
        meter=meter,
        **arguments,
    )


def _rows(
    session: Session, section: DistillSection, prompts: Sequence[Prompt], stage: str
) -> list[dict[str, Any]]:
    """Ids of prompts and completions, from where the recipe says."""
    if section.completions.source == "teacher":
        asked, longest = session.recipe.rollouts.batch_tokens, _longest(session, section)
        texts = Texts.of([prompt.prompt_ids for prompt in prompts], longest)
        found = teacher_completions(
            session.place,
            session.teacher_ref,
            session.vocabulary,
            prompts,
            section,
            session.folder / "completions" / _owner(section),
            max_new_tokens=longest,
            batching=session.batching(stage, asked, [session.teacher_ref], texts),
            seed=session.recipe.seed,
        )
        return completion_rows(prompts, found, section.max_length)
    return known_rows(section, prompts, session.renderer)


def _student_share(
    session: Session, section: DistillSection, rows: Sequence[dict[str, Any]]
) -> StudentShare | None:
    completions = section.completions
    if not completions.from_student:
        return None
    held_out = completions.adaptive.validation_rows if completions.adaptive else 0
    require_rows_to_train(section, len(rows))
    return StudentShare(
        share=completions.student_share,
        adaptive=completions.adaptive,
        validation=[
            (row["prompt_ids"], row["completion_ids"]) for row in rows[len(rows) - held_out :]
        ],
        max_new_tokens=_longest(session, section),
        temperature=completions.temperature,
        seed=session.recipe.seed,
    )


def _longest(session: Session, section: DistillSection) -> int:
    return section.completions.max_new_tokens or session.recipe.rollouts.max_new_tokens


def _owner(section: DistillSection) -> str:
    """Distillation and control share what the teacher gives; the healing has its own."""
    return "cut" if isinstance(section, CutSection) else "distill"


def _head(teacher: ModelRef, vocabulary: Vocabulary) -> Head:
    """All that hidden states on disk need of the teacher."""
    return Head(load_head(teacher), load_config(teacher.name), vocabulary)


def _signals(
    session: Session, section: DistillSection, rows: Sequence[dict[str, Any]]
) -> TeacherSignals | None:
    """The teacher's signal on disk."""
    if section.teacher_signal == "live":
        return None
    task = Signalling(
        teacher=session.teacher_ref,
        vocabulary=session.vocabulary,
        kind=section.teacher_signal,
        top_k=section.top_k,
        temperature=section.temperature,
    )
    folder = session.folder / "signals" / _owner(section)
    return write_signals(session.place, task, rows, folder)
