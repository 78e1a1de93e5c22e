"""From rollouts to preference pairs: which become pairs, which do not, and why."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from warmup_distill.models.chat import decode_completion, decode_prompt
from warmup_distill.recipe import PairsSection
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.scoring.answers import is_right
from warmup_distill.scoring.rouge import rouge_l

Score = Callable[[Sequence[str], Sequence[str]], list[float]]
"""Rewards of completions, given the texts of prompts and completions."""

FILTERS = ("truncated", "verifier", "rouge_l", "reward_model", "max_per_prompt")
"""In the order in which they are applied; a pair counts for the first that drops it."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair before the filters, with what they look at."""

    pair: Pair
    prompt: Prompt
    truncated: bool

    @property
    def verdict(self) -> tuple[bool, bool] | None:
        """Whether the rejected and the chosen side are right; None where nobody can tell."""
        if self.prompt.answer is None:
            return None
        sides = self.pair.rejected, self.pair.chosen
        rejected, chosen = (is_right(side, self.prompt.answer) for side in sides)
        return rejected, chosen


@dataclass(kw_only=True)
class PairCounts:
    """What happened to the rollouts on their way to pairs."""

    rollouts: int = 0
    mismatching: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """Of all mismatching rollouts with an answer: `right_to_wrong` counts those where the
    student's own completion was right and the teacher's version is wrong."""

    def as_dict(self) -> dict[str, Any]:
        counts: dict[str, Any] = {
            "rollouts": self.rollouts,
            "mismatching": self.mismatching,
            "dropped": {name: self.dropped[name] for name in FILTERS},
            "pairs": self.pairs,
        }
        if self.verdicts:
            counts["verdicts"] = {"checked": self.verdicts.total()} | {
                f"{before}_to_{after}": self.verdicts[f"{before}_to_{after}"]
                for before in ("right", "wrong")
                for after in ("right", "wrong")
            }
        return counts


def select_pairs(
    rollouts: Iterable[Rollout],
    prompts: Mapping[str, Prompt],
    tokenizer: Any,
    settings: PairsSection,
    reward: Score | None = None,
) -> tuple[list[Pair], PairCounts]:
    """Make a pair of every mismatching rollout and apply the recipe's filters.

    Args:
        rollouts: in the order in which `max_per_prompt` counts them.
        prompts: by prompt id.
        tokenizer: turns ids into the texts that people and filters read.
        settings: the filters.
        reward: scores completions where `settings.reward_model` is set.
    """
    counts = PairCounts()
    candidates = []
    for rollout in rollouts:
        counts.rollouts += 1
        if rollout.mismatch_index is None:
            continue
        counts.mismatching += 1
        candidate = _candidate(rollout, prompts[rollout.prompt_id], tokenizer)
        candidates.append(candidate)
        if candidate.verdict is not None:
            before, after = ("right" if right else "wrong" for right in candidate.verdict)
            counts.verdicts[f"{before}_to_{after}"] += 1
    gains = _reward_gains(candidates, reward)
    per_prompt: Counter[str] = Counter()
    pairs = []
    for candidate, gain in zip(candidates, gains, strict=True):
        pair = candidate.pair
        reason = _reason_to_drop(candidate, gain, per_prompt[pair.prompt_id], settings)
        if reason is not None:
            counts.dropped[reason] += 1
            continue
        per_prompt[pair.prompt_id] += 1
        pairs.append(pair)
    counts.pairs = len(pairs)
    return pairs, counts


def _candidate(rollout: Rollout, prompt: Prompt, tokenizer: Any) -> Candidate:
    index = rollout.mismatch_index
    assert index is not None and rollout.continuation_ids and rollout.continuation_ref_logprobs
    chosen_ids = rollout.corrected_ids
    assert chosen_ids[index] != rollout.completion_ids[index]
    pair = Pair(
        prompt_id=rollout.prompt_id,
        sample_index=rollout.sample_index,
        prompt_ids=prompt.prompt_ids,
        chosen_ids=chosen_ids,
        rejected_ids=rollout.completion_ids,
        mismatch_index=index,
        chosen_ref_logprob=math.fsum(rollout.continuation_ref_logprobs),
        rejected_ref_logprob=math.fsum(rollout.student_logprobs[index:]),
        prompt=decode_prompt(tokenizer, prompt.prompt_ids),
        chosen=decode_completion(tokenizer, chosen_ids),
        rejected=decode_completion(tokenizer, rollout.completion_ids),
    )
    truncated = "length" in (rollout.finish_reason, rollout.continuation_finish_reason)
    return Candidate(pair=pair, prompt=prompt, truncated=truncated)


def _reward_gains(candidates: Sequence[Candidate], reward: Score | None) -> list[float | None]:
    """Reward of the chosen side minus that of the rejected side."""
    if reward is None:
        return [None] * len(candidates)
    prompts = [candidate.prompt.text for candidate in candidates]
    chosen = reward(prompts, [candidate.pair.chosen for candidate in candidates])
    rejected = reward(prompts, [candidate.pair.rejected for candidate in candidates])
    return [after - before for after, before in zip(chosen, rejected, strict=True)]


def _reason_to_drop(
    candidate: Candidate, reward_gain: float | None, kept: int, settings: PairsSection
) -> str | None:
    """The first filter that drops a pair, or None. `kept`: pairs its prompt already gave."""
    if settings.truncated == "drop" and candidate.truncated:
        return "truncated"
    if settings.verifier and not _passes_verifier(candidate, settings.verifier):
        return "verifier"
    if settings.rouge_l and not _passes_rouge(candidate):
        return "rouge_l"
    if reward_gain is not None and not reward_gain > settings.min_reward_gain:
        return "reward_model"
    if settings.max_per_prompt is not None and kept >= settings.max_per_prompt:
        return "max_per_prompt"
    return None


def _passes_verifier(candidate: Candidate, verifier: str) -> bool:
    if candidate.verdict is None:
        return True
    rejected_right, chosen_right = candidate.verdict
    return chosen_right or (verifier == "not_worse" and not rejected_right)


def _passes_rouge(candidate: Candidate) -> bool:
    if candidate.prompt.reference is None:
        return True
    sides = candidate.pair.chosen, candidate.pair.rejected
    chosen, rejected = (rouge_l(side, [candidate.prompt.reference]) for side in sides)
    return chosen >= rejected
