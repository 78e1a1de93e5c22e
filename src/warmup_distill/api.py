"""For those who have a training script of their own: rollouts and pairs without a run directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from pydantic import ValidationError
from transformers import PreTrainedModel

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import DataError, RecipeError
from warmup_distill.models.chat import Format, encode_prompt
from warmup_distill.models.loading import context_of
from warmup_distill.models.vocabulary import shared_vocabulary
from warmup_distill.recipe import PairsSection, RolloutsSection
from warmup_distill.recipe.reading import explain
from warmup_distill.recipe.section import Section
from warmup_distill.records import Prompt, Rollout
from warmup_distill.stages.pairing import select_pairs
from warmup_distill.stages.rollouts import roll_out


@dataclass(frozen=True, kw_only=True)
class RolloutSet:
    """Rollouts with the prompts and the tokenizer that they belong to."""

    tokenizer: Any
    prompts: list[Prompt]
    rollouts: list[Rollout]


def build_rollouts(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    **settings: Any,
) -> RolloutSet:
    """Sample from the student, let the teacher check every token and continue at mismatches.

    Args:
        student: a causal language model.
        teacher: one with the same tokenizer.
        tokenizer: of both; prompts are a user's turn if it has a chat template, else plain text.
        prompts: what the user asks.
        seed: of all draws.
        settings: fields of the recipe's section `rollouts`, such as `num_samples=8`,
            `margin_threshold=4.0`, `max_new_tokens=256`.

    Example:
        >>> rollouts = build_rollouts(student, teacher, tokenizer, ["What is 2 + 2?"])
        >>> dataset = build_pairs(rollouts)  # TRL's DPOTrainer takes it as it is
    """
    if isinstance(prompts, str) or not all(isinstance(text, str) for text in prompts):
        raise DataError("expected a list of texts as prompts, such as ['What is 2 + 2?'].")
    if not prompts:
        raise DataError("expected prompts, but the list is empty.")
    section = _section(RolloutsSection, settings)
    configs = {"student": student.config, "teacher": teacher.config}
    generation = [student.generation_config, teacher.generation_config]
    vocabulary = shared_vocabulary(tokenizer, tokenizer, configs, generation)
    format: Format = "chat" if tokenizer.chat_template else "text"
    records = [
        Prompt(
            prompt_id=f"prompt-{index:06d}",
            prompt_ids=encode_prompt(tokenizer, text, format),
            text=text,
            reference=None,
            answer=None,
        )
        for index, text in enumerate(prompts)
    ]
    context = min(context_of(model.config) for model in (student, teacher))
    longest = max(len(record.prompt_ids) for record in records)
    if longest + section.max_new_tokens > context:
        raise DataError(
            f"a prompt of {longest} tokens and a completion of {section.max_new_tokens} do not fit "
            f"into the context of {context}. Lower max_new_tokens, or shorten the prompt."
        )
    engine = TransformersEngine(student, teacher, vocabulary, section.batch_tokens)
    rollouts = roll_out(engine, records, section, seed)
    return RolloutSet(tokenizer=tokenizer, prompts=records, rollouts=rollouts)


def _section(kind: type[Section], settings: dict[str, Any]) -> Any:
    """A section of the recipe from keywords, with the recipe's own messages."""
    try:
        return kind(**settings)
    except ValidationError as error:
        lines = [explain(detail, kind) for detail in error.errors()]
        raise RecipeError("; ".join(lines)) from error


def build_pairs(rollout_set: RolloutSet, **settings: Any) -> Dataset:
    """Preference pairs with the columns of `records.Pair`, among them the `prompt`, `chosen` and
    `rejected` texts that TRL's DPOTrainer reads.

    Args:
        rollout_set: what `build_rollouts` returned.
        settings: fields of the recipe's section `pairs`, such as `max_per_prompt=4`.
    """
    prompts = {prompt.prompt_id: prompt for prompt in rollout_set.prompts}
    section = _section(PairsSection, settings)
    pairs, _ = select_pairs(rollout_set.rollouts, prompts, rollout_set.tokenizer, section)
    return Dataset.from_list([vars(pair) for pair in pairs])
