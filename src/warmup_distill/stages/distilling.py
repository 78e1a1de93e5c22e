"""What every distillation of a run does: rows, a teacher and a starting point → a student."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from transformers import PreTrainedModel

from warmup_distill.cluster.places import StepMeter
from warmup_distill.engines.fitting import Texts
from warmup_distill.engines.progress import StepProgress
from warmup_distill.engines.randomness import stream
from warmup_distill.ledger.counting import Passes, of_drawn, of_row
from warmup_distill.ledger.passes import NOTHING, Pass
from warmup_distill.models.heads import load_head
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import load_config, load_model
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import CutSection, DistillSection
from warmup_distill.records import Prompt, Rollout
from warmup_distill.stages.charging import charge_training
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts
from warmup_distill.training.completions import StudentShare
from warmup_distill.training.data import (
    completion_rows,
    corrected,
    known_rows,
    require_rows_to_train,
    teacher_completions,
)
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.fit import fit, scratch_of
from warmup_distill.training.signalling import Signalling, write_signals
from warmup_distill.training.signals import TeacherSignals
from warmup_distill.tree.heads import Head

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a student is distilled on."""

    rows: Rows
    """Of `prompt_ids` and `completion_ids`, numbered."""
    passes: Passes
    """What was run for them alone."""
    uses: list[str]
    """Stages that they come from, as the ledger counts them."""
    counts: dict[str, Any]
    """What is not among them, for the manifest."""
    owner: str
    """Names the folder of the teacher's signals on these rows."""

    def signalled(self, section: DistillSection) -> Passes:
        """What the teacher runs for its signal on disk; of hidden states the head comes later."""
        if section.teacher_signal == "live":
            return {}
        whole = self.whole
        body = Pass(tokens=whole.tokens, keys=whole.keys)
        return {("teacher", "score"): whole if section.teacher_signal == "top_k" else body}

    @cached_property
    def whole(self) -> Pass:
        """One pass over all rows; the last token of each predicts nothing."""
        lengths = ((len(row["prompt_ids"]), len(row["completion_ids"])) for row in self.rows)
        return sum((of_row(*one) for one in lengths), NOTHING)


def material(session: Session, section: DistillSection, stage: str) -> Material:
    """Prompts and completions from where the recipe says; those of a teacher that draws are kept.

    Args:
        stage: that asks for them.
    """
    prompts = list(read_parts(session.folder / "prompts", Prompt))
    if section.completions.source == "rollouts":
        return from_rollouts(session, section, prompts, owner=_owner(section))
    passes: Passes = {}
    if section.completions.source == "teacher":
        seed, longest = session.recipe.seed, _longest(session, section)
        drawn, passes = taught(
            session, stage, prompts, _owner(section),
            key=partial(stream, seed, "distill"), max_new_tokens=longest,
            temperature=section.completions.temperature,
        )  # fmt: skip
        found = {name: [ids] for name, ids in drawn.items()}
        rows = completion_rows(prompts, found, section.max_length)
    else:
        rows = known_rows(section, prompts, session.renderer)
    rows, counts = rows[: section.limit], {"left_out": len(prompts) - len(rows)}
    return Material(rows=rows, passes=passes, uses=[], counts=counts, owner=_owner(section))


def from_rollouts(
    session: Session, section: DistillSection, prompts: Sequence[Prompt], *, owner: str
) -> Material:
    """The corrected completions of the rollouts."""
    right = section.completions.verifier == "right"
    rollouts = read_parts(session.folder / "rollouts", Rollout)
    found, wrong = corrected(prompts, rollouts, session.tokenizer, right=right)
    rows = completion_rows(prompts, found, section.max_length)
    counts = {"left_out": sum(map(len, found.values())) - len(rows), "dropped": {"verifier": wrong}}
    rows = rows[: section.limit]
    return Material(rows=rows, passes={}, uses=["rollouts"], counts=counts, owner=owner)


def distil(
    session: Session,
    section: DistillSection,
    stage: str,
    name: str,
    given: Material,
    uses: Sequence[str],
    load: Callable[[str], PreTrainedModel] = load_model,
) -> dict[str, Any]:
    """Distil a model, which `load` loads by its name, into the folder of a stage.

    Args:
        uses: stages that made the model, as the ledger counts them.
    """
    rows = given.rows
    share = _student_share(session, section, rows)
    trained = rows[: len(rows) - len(share.validation)] if share else rows
    signals = _signals(session, section, rows, given.owner)
    live = section.teacher_signal == "live" and section.objective != "sft"
    teacher = session.teacher_ref if live else None
    row_tokens = session.row_tokens(stage, section, name, [teacher] if teacher else [])
    folder = (session.folder / stage).absolute()
    learn = partial(
        _learn,
        start=partial(load, name),
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
    before = given.passes | given.signalled(section)
    uses = [*uses, *given.uses]
    return charge_training(session, stage, counts, uses, before) | given.counts


def _learn(
    held: Held,
    meter: StepMeter,
    *,
    start: Callable[[], PreTrainedModel],
    teacher: ModelRef | None,
    head: ModelRef | None,
    vocabulary: Vocabulary,
    **arguments: Any,
) -> dict[str, Any]:
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


def taught(
    session: Session,
    stage: str,
    prompts: Sequence[Prompt],
    folder: str,
    *,
    key: Callable[[str], int],
    max_new_tokens: int,
    temperature: float,
) -> tuple[dict[str, list[int]], Passes]:
    """A completion of the teacher for each prompt, and what it ran for them.

    Args:
        folder: below `completions`, where they are kept.
        key: of the random numbers of a prompt, by its id.
    """
    texts = Texts.of([prompt.prompt_ids for prompt in prompts], max_new_tokens)
    asked, teacher = session.recipe.rollouts.batch_tokens, session.teacher_ref
    drawn = teacher_completions(
        session.place,
        teacher,
        session.vocabulary,
        prompts,
        session.folder / "completions" / folder,
        key=key,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batching=session.batching(stage, asked, [teacher], texts),
    )
    lengths = ((len(one.prompt_ids), [len(drawn[one.prompt_id])]) for one in prompts)
    ran = sum((of_drawn(*one) for one in lengths), NOTHING)
    return drawn, {("teacher", "sample"): ran}


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
    """Distillation and controls share what the teacher gives; the healing has its own."""
    return "cut" if isinstance(section, CutSection) else "distill"


def _head(teacher: ModelRef, vocabulary: Vocabulary) -> Head:
    """All that hidden states on disk need of the teacher."""
    return Head(load_head(teacher), load_config(teacher.name), vocabulary)


def _signals(
    session: Session, section: DistillSection, rows: Sequence[dict[str, Any]], owner: str
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
    return write_signals(session.place, task, rows, session.folder / "signals" / owner)
