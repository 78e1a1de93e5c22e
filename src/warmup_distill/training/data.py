"""What a student is distilled on: references, completions of others, or prompts alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from warmup_distill.cluster.places import Place
from warmup_distill.engines.batching import Batching
from warmup_distill.engines.drawing import Drawing, draw_fitting
from warmup_distill.engines.progress import Progress
from warmup_distill.errors import DataError
from warmup_distill.models.chat import decode_completion
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import DistillSection
from warmup_distill.records import Prompt, Rollout
from warmup_distill.scoring.answers import is_right


def reference_rows(
    prompts: Sequence[Prompt], renderer: Renderer, max_length: int
) -> list[dict[str, Any]]:
    """Prompts with their references as token ids; a cut reference gets no end-of-sequence."""
    completions = {
        prompt.prompt_id: [renderer.reference(prompt.reference)]
        for prompt in prompts
        if prompt.reference is not None
    }
    return completion_rows(prompts, completions, max_length)


def prompt_rows(
    prompts: Sequence[Prompt], renderer: Renderer, max_length: int
) -> list[dict[str, Any]]:
    """Prompts for a student that always completes them itself; what stands there is never read."""
    nothing = {prompt.prompt_id: [renderer.reference("")] for prompt in prompts}
    return completion_rows(prompts, nothing, max_length)


def known_rows(
    section: DistillSection, prompts: Sequence[Prompt], renderer: Renderer
) -> list[dict[str, Any]]:
    """The rows of a distillation as they are before anything is drawn.

    Raises:
        DataError: nothing fits.
    """
    drawn = section.completions.source != "references" or section.completions.student_share == 1
    make = prompt_rows if drawn else reference_rows
    return make(prompts, renderer, section.max_length)


def completion_rows(
    prompts: Sequence[Prompt], completions: Mapping[str, Sequence[list[int]]], max_length: int
) -> list[dict[str, Any]]:
    """Rows of `prompt_ids` and `completion_ids`, numbered, of what fits into `max_length` tokens.

    Args:
        completions: of each prompt, by its id.

    Raises:
        DataError: nothing does.
    """
    rows: list[dict[str, Any]] = []
    for prompt in prompts:
        room = max_length - len(prompt.prompt_ids)
        for completion in completions.get(prompt.prompt_id, []) if room > 0 else []:
            ids = {"prompt_ids": prompt.prompt_ids, "completion_ids": completion[:room]}
            rows.append(ids | {"row": len(rows)})
    if not rows:
        raise DataError(
            f"expected prompts with a reference that fit into {max_length} tokens, but there are "
            "none. Name the column in prompts.reference_column, or raise max_length."
        )
    return rows


def corrected(
    prompts: Sequence[Prompt], rollouts: Iterable[Rollout], tokenizer: Any, *, right: bool
) -> tuple[dict[str, list[list[int]]], int]:
    """What the rollouts hold of each prompt: student completions as the teacher corrected them.

    Args:
        right: leave out those whose answer is wrong, of prompts that have one.

    Returns:
        Completions by prompt, and how many were left out.

    Raises:
        DataError: all of them were.
    """
    known = {prompt.prompt_id: prompt.answer if right else None for prompt in prompts}
    found: dict[str, list[list[int]]] = {}
    wrong = 0
    for rollout in rollouts:
        ids, answer = rollout.corrected_ids, known[rollout.prompt_id]
        if answer is not None and not is_right(decode_completion(tokenizer, ids), answer):
            wrong += 1
            continue
        found.setdefault(rollout.prompt_id, []).append(ids)
    if not found:
        raise DataError(
            f"distill.completions.verifier: all {wrong} corrected completions are wrong. Leave it "
            "out, or look at the completions with `warmup-distill report`."
        )
    return found, wrong


def require_rows_to_train(section: DistillSection, rows: int) -> None:
    """Raise a DataError if the validation set would take all rows."""
    adaptive = section.completions.adaptive
    if adaptive and adaptive.validation_rows >= rows:
        raise DataError(
            f"distill.completions.adaptive holds {adaptive.validation_rows} rows out for "
            f"validation, but there are only {rows}. Lower validation_rows or give more prompts."
        )


def teacher_completions(
    place: Place,
    teacher: ModelRef,
    vocabulary: Vocabulary,
    prompts: Sequence[Prompt],
    folder: Path,
    *,
    key: Callable[[str], int],
    max_new_tokens: int,
    temperature: float,
    batching: Batching,
) -> dict[str, list[int]]:
    """One completion of the teacher for each prompt, by its id; kept in `folder`.

    Args:
        key: of the random numbers of a prompt, by its id.

    Source: Kim and Rush 2016, arXiv:1606.07947, section 3.2 (sequence-level distillation), with a
    draw in place of the beam.
    """
    wanted = Drawing(
        model=teacher,
        vocabulary=vocabulary,
        prompts=[prompt.prompt_ids for prompt in prompts],
        streams=[[key(prompt.prompt_id)] for prompt in prompts],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batch_tokens=batching.chosen.tokens,
    )
    with Progress("teacher", wanted.most_tokens) as progress:
        drawn = draw_fitting(place, wanted, folder, progress, batching)
    return {p.prompt_id: one.completion_ids for p, (one,) in zip(prompts, drawn, strict=True)}
