"""What can be known of the rows of a run's trainings before anything is drawn or computed."""

from collections.abc import Sequence

from warmup_distill.errors import DataError
from warmup_distill.recipe import DistillSection
from warmup_distill.records import Prompt
from warmup_distill.stages.session import Session
from warmup_distill.training.data import known_rows, require_rows_to_train


def require_rows(session: Session, prompts: Sequence[Prompt]) -> None:
    """Make the rows of every distillation as it will make them, as far as they are known.

    Raises:
        DataError: there are none, or too few, or the models cannot read them to their end.
        ModelError: the tokenizer has no end for a reference.
    """
    recipe = session.recipe
    _require_rows(session, "distill", recipe.distill, prompts)
    if {"cold_start", "corrected"}.intersection(recipe.controls):
        rolled = recipe.distill.completions.model_copy(update={"source": "rollouts"})
        section = recipe.distill.model_copy(update={"completions": rolled})
        _require_rows(session, "distill", section, prompts)
    if recipe.cut and recipe.cut.heal:
        _require_rows(session, "cut", recipe.cut, prompts)


def _require_rows(
    session: Session, name: str, section: DistillSection, prompts: Sequence[Prompt]
) -> None:
    settings, times = session.recipe.rollouts, 1
    if section.completions.source == "rollouts":
        prompts, times = prompts[: settings.limit], settings.num_samples
    rows = known_rows(section, prompts, session.renderer)
    require_rows_to_train(section, times * len(rows))
    context = session.context
    longest = max(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows)
    if longest > context:
        raise DataError(
            f"{name}.max_length is {section.max_length}, and a prompt with its reference has "
            f"{longest} tokens, but the models read {context}. Set max_length to {context} or "
            "less, which cuts longer references."
        )
    drawn = section.completions.max_new_tokens
    longest = max(len(row["prompt_ids"]) for row in rows)
    if drawn is not None and longest + drawn > context:
        raise DataError(
            f"{name}.completions.max_new_tokens is {drawn}, and a prompt has {longest} tokens, but "
            f"the models read {context} together. Lower it, or leave longer prompts out by "
            "prompts.max_prompt_tokens and `too_long: drop`."
        )
