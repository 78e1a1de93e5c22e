"""For those who have a training script of their own: rollouts and pairs without a run directory."""

import logging
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets import Dataset, Features, List, Value

from warmup_distill.cluster.places import NOBODY, Meter
from warmup_distill.data.given import given_prompts
from warmup_distill.engines.batching import Batching
from warmup_distill.engines.fitting import Texts, choose_for
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import DataError, RecipeError
from warmup_distill.foreign.showing import brief
from warmup_distill.models.chat import require_same_rendering
from warmup_distill.models.exchange import holds_control, texts_to_encode
from warmup_distill.models.loading import context_of
from warmup_distill.models.memory import attempted
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import vocabulary_of
from warmup_distill.recipe import PairsSection, RolloutsSection
from warmup_distill.recipe.given import section_of
from warmup_distill.records import Prompt, Rollout
from warmup_distill.scoring.reward import RewardModel
from warmup_distill.stages.pairing import PairCounts, select_pairs
from warmup_distill.stages.rollouts import roll_out
from warmup_distill.training.given import given_model, given_tokenizer

logger = logging.getLogger(__name__)

IDS = List(Value("int64"))
FEATURES = Features(
    {
        "prompt_id": Value("string"), "sample_index": Value("int64"),
        "prompt_ids": IDS, "chosen_ids": IDS, "rejected_ids": IDS,
        "mismatch_index": Value("int64"),
        "chosen_ref_logprob": Value("float64"), "rejected_ref_logprob": Value("float64"),
        "prefix_ref_logprob": Value("float64"),
        "prompt": Value("string"), "chosen": Value("string"), "rejected": Value("string"),
    }
)  # fmt: skip
"""The columns of `build_pairs`, which it has without a single pair too."""


@dataclass(frozen=True, kw_only=True)
class RolloutSet:
    """Rollouts with the prompts and the tokenizer that they belong to."""

    tokenizer: Any
    prompts: list[Prompt]
    rollouts: list[Rollout]


class PairDataset(Dataset):  # type: ignore[misc]
    """Preference pairs, and what became of all the rollouts."""

    counts: PairCounts


def build_rollouts(
    student: Any,
    teacher: Any,
    tokenizer: Any,
    prompts: Iterable[str],
    *,
    references: Iterable[str | None] | None = None,
    answers: Iterable[Any] | None = None,
    system: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    **settings: Any,
) -> RolloutSet:
    """Sample from the student, let the teacher check every token and continue at mismatches.

    Args:
        student: a causal language model, or its name.
        teacher: one with the same tokenizer, or its name.
        tokenizer: of both, or the name of a model that has it; prompts are a user's turn if it has
            a chat template, else plain text.
        prompts: what the user asks: a list, a column of a data set, a generator of texts.
        references: a good completion of each prompt, for `build_pairs(…, rouge_l=…)`.
        answers: the final answer to each prompt, for `build_pairs(…, verifier=…)`.
        system: a system message before every prompt.
        chat_template_kwargs: what the chat template takes besides.
        seed: of all draws.
        settings: fields of the recipe's section `rollouts`, such as `num_samples=8`,
            `margin_threshold=4.0`, `max_new_tokens=256`; `limit` takes the first prompts alone.

    Raises:
        DataError: the prompts are no texts, or too long; or there are more or fewer of the others.
        RecipeError: a setting is not one that the recipe would take, or has no effect here.
        ModelError: the models or their tokenizer cannot be used.

    Example:
        >>> rollouts = build_rollouts(student, teacher, tokenizer, ["What is 2 + 2?"])
        >>> dataset = build_pairs(rollouts)  # TRL's DPOTrainer takes it as it is
    """
    if "prompts_per_part" in settings:
        raise RecipeError("prompts_per_part has no effect here: no parts are written to disk.")
    section = section_of(RolloutsSection, settings)
    if section.engine.name != "transformers":
        raise RecipeError("engine has no effect here: the models that are given compute.")
    student, teacher = given_model(student, "student"), given_model(teacher, "teacher")
    tokenizer = given_tokenizer(tokenizer)
    renderer = Renderer.of(tokenizer, system=system, template_kwargs=chat_template_kwargs or {})
    require_same_rendering(renderer, renderer)
    vocabulary = vocabulary_of(renderer, {"student": student, "teacher": teacher})
    records = given_prompts(renderer, prompts, references, answers)[: section.limit]
    _require_room(records, section.max_new_tokens, student, teacher)
    ids = [record.prompt_ids for record in records]
    texts = Texts.of(ids, section.max_new_tokens, section.num_samples)
    chosen = choose_for([student, teacher], section.batch_tokens, texts)
    key = _whole(seed)

    def rolling(batch_tokens: int, meter: Meter) -> list[Rollout]:
        engine = TransformersEngine(student, teacher, vocabulary, batch_tokens)
        return attempted(partial(roll_out, engine, records, section, key))

    rollouts = Batching(chosen).run(rolling, NOBODY)
    return RolloutSet(tokenizer=tokenizer, prompts=records, rollouts=rollouts)


def _whole(seed: Any) -> int:
    """A seed as Python's own whole number, of whatever type it is: equal seeds draw alike."""
    try:
        return operator.index(seed)
    except TypeError:
        raise RecipeError(f"seed: expected a whole number, got {brief(seed)}.") from None


def build_pairs(rollout_set: RolloutSet, **settings: Any) -> PairDataset:
    """Preference pairs with the columns of `records.Pair`, among them the `prompt`, `chosen` and
    `rejected` texts that TRL's DPOTrainer reads, and `prefix_ref_logprob` for our own trainer.

    Programs that read text put an end-of-sequence behind every completion. So pairs of which a
    side was cut off are left out, unless `truncated="keep"` says otherwise; `WarmupTrainer`, which
    reads ids, may have them.

    Args:
        rollout_set: what `build_rollouts` returned.
        settings: fields of the recipe's section `pairs`, such as `max_per_prompt=4`.

    Returns:
        A `datasets.Dataset` whose `counts` say what became of the rollouts.

    Raises:
        DataError: it is something else.
        RecipeError: a setting is not one that the recipe would take, or has no effect here.
        ModelError: there is no such reward model.
    """
    if not isinstance(rollout_set, RolloutSet):
        raise DataError(
            "rollout_set: expected what `build_rollouts` returns, got "
            f"{type(rollout_set).__name__}."
        )
    section = section_of(PairsSection, {"truncated": "drop"} | settings)
    _require_known(section, rollout_set.prompts)
    prompts = {prompt.prompt_id: prompt for prompt in rollout_set.prompts}
    tokenizer = rollout_set.tokenizer
    reward = RewardModel(section.reward_model).score if section.reward_model else None
    pairs, counts = select_pairs(rollout_set.rollouts, prompts, tokenizer, section, reward)
    before = {
        (rollout.prompt_id, rollout.sample_index): sum(
            rollout.student_logprobs[: rollout.mismatch_index]
        )
        for rollout in rollout_set.rollouts
    }
    rows = [
        vars(pair)
        | texts_to_encode(tokenizer, pair)
        | {"prefix_ref_logprob": before[pair.prompt_id, pair.sample_index]}
        for pair in pairs
    ]
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    unreadable = sum(holds_control(tokenizer, prompts[pair.prompt_id].text) for pair in pairs)
    if unreadable:
        logger.warning(
            "%d pairs have a control token in their prompt that its author wrote as text. The ids "
            "are right; programs that read the column `prompt` take it for a control token.",
            unreadable,
        )
    dataset: PairDataset = PairDataset.from_dict(columns, features=FEATURES)
    dataset.counts = counts
    return dataset


def _require_known(settings: PairsSection, prompts: Sequence[Prompt]) -> None:
    """Raise a RecipeError if a filter has nothing to look at."""
    for field, needed in (("verifier", "answer"), ("rouge_l", "reference")):
        if getattr(settings, field) and all(getattr(one, needed) is None for one in prompts):
            raise RecipeError(
                f"{field} has no effect without {needed}s: give `build_rollouts(…, {needed}s=…)` "
                "one for each prompt."
            )


def _require_room(prompts: Sequence[Prompt], max_new_tokens: int, *models: Any) -> None:
    """Raise a DataError if a prompt and its completion are longer than a model reads."""
    context = min(context_of(one.config) for one in models)
    longest = max(len(prompt.prompt_ids) for prompt in prompts)
    if longest + max_new_tokens > context:
        raise DataError(
            f"a prompt of {longest} tokens and a completion of {max_new_tokens} do not fit into "
            f"the context of {context}. Lower max_new_tokens, or shorten the prompt."
        )
