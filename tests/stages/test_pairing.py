"""Which rollouts become pairs, and that every one that does not is counted."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from warmup_distill.recipe import PairsSection
from warmup_distill.records import Prompt, Rollout
from warmup_distill.stages.pairing import FILTERS, select_pairs

WORDS = {1: "", 5: "#### 7", 6: "#### 8", 7: "so ", 8: "well "}
TOKENIZER: Any = SimpleNamespace(
    decode=lambda ids, skip_special_tokens: "".join(WORDS[id_] for id_ in ids)
)
PROMPT = Prompt(prompt_id="p", prompt_ids=[7], text="3 + 4?", reference="#### 7", answer="7")


def rollout(rejected: list[int], ending: list[int] | None, index: int = 0, **more: Any) -> Rollout:
    """A rollout whose mismatch is at `index`; each token has log-probability −1, −2, …"""
    logprobs = [-1.0 - t for t in range(len(rejected))]
    return Rollout(
        prompt_id="p",
        sample_index=more.pop("sample_index", 0),
        completion_ids=rejected,
        student_logprobs=logprobs,
        teacher_logprobs=logprobs,
        mismatch_index=None if ending is None else index,
        margin=5.0,
        continuation_ids=ending,
        continuation_ref_logprobs=None if ending is None else [-10.0] * len(ending),
        finish_reason=more.pop("finish_reason", "eos"),
        continuation_finish_reason=None
        if ending is None
        else more.pop("continuation_finish_reason", "eos"),
    )


WRONG_TO_RIGHT = rollout([7, 6, 1], [5, 1], index=1)
RIGHT_TO_WRONG = rollout([5, 1], [6, 1])
RIGHT_TO_RIGHT = rollout([7, 5, 1], [8, 5, 1])
WRONG_TO_WRONG = rollout([7, 6, 1], [8, 6, 1])
ALL = [WRONG_TO_RIGHT, RIGHT_TO_WRONG, RIGHT_TO_RIGHT, WRONG_TO_WRONG]


def select(rollouts: list[Rollout], prompt: Prompt = PROMPT, **settings: Any) -> Any:
    return select_pairs(rollouts, {"p": prompt}, TOKENIZER, PairsSection(**settings))


def test_a_pair_shares_its_prefix_and_sums_its_suffixes() -> None:
    (pair,), _ = select([WRONG_TO_RIGHT])
    assert (pair.chosen_ids, pair.rejected_ids, pair.mismatch_index) == ([7, 5, 1], [7, 6, 1], 1)
    assert pair.chosen_ref_logprob == -20.0  # two tokens of the continuation at −10
    assert pair.rejected_ref_logprob == -5.0  # −2 and −3; the shared token's −1 is left out
    assert (pair.chosen, pair.rejected) == ("so #### 7", "so #### 8")


def test_a_rollout_without_mismatch_gives_no_pair() -> None:
    pairs, counts = select([rollout([5, 1], None)])
    assert pairs == [] and counts.rollouts == 1 and counts.mismatching == 0


def test_verdicts_say_what_the_teacher_made_of_each_answer() -> None:
    _, counts = select(ALL)
    assert counts.as_dict()["verdicts"] == {
        "checked": 4,
        "right_to_right": 1,
        "right_to_wrong": 1,
        "wrong_to_right": 1,
        "wrong_to_wrong": 1,
    }


@pytest.mark.parametrize(
    ("verifier", "kept"),
    [
        (None, ALL),
        ("chosen_right", [WRONG_TO_RIGHT, RIGHT_TO_RIGHT]),
        ("not_worse", [WRONG_TO_RIGHT, RIGHT_TO_RIGHT, WRONG_TO_WRONG]),
    ],
)
def test_the_verifier_keeps_what_its_name_says(verifier: str | None, kept: list[Rollout]) -> None:
    pairs, counts = select(ALL, verifier=verifier)
    assert [pair.rejected_ids for pair in pairs] == [r.completion_ids for r in kept]
    assert counts.dropped["verifier"] == 4 - len(kept)


def test_without_an_answer_the_verifier_keeps_everything_and_says_nothing() -> None:
    pairs, counts = select(ALL, replace(PROMPT, answer=None), verifier="chosen_right")
    assert len(pairs) == 4 and "verdicts" not in counts.as_dict()


def test_rouge_l_drops_a_chosen_side_further_from_the_reference() -> None:
    pairs, counts = select(ALL, rouge_l="not_worse")
    assert counts.dropped["rouge_l"] == 1  # RIGHT_TO_WRONG: the reference is "#### 7"
    assert RIGHT_TO_WRONG.completion_ids not in [pair.rejected_ids for pair in pairs]


@pytest.mark.parametrize("side", ["finish_reason", "continuation_finish_reason"])
def test_a_side_that_was_cut_off_is_kept_or_dropped_as_asked(side: str) -> None:
    cut = rollout([7, 6], [5, 1], **{side: "length"})
    assert len(select([cut], truncated="keep")[0]) == 1
    pairs, counts = select([cut], truncated="drop")
    assert pairs == [] and counts.dropped["truncated"] == 1


def test_a_prompt_gives_at_most_its_cap_in_the_order_of_samples() -> None:
    rollouts = [replace(WRONG_TO_RIGHT, sample_index=i) for i in range(5)]
    pairs, counts = select(rollouts, max_per_prompt=2)
    assert [pair.sample_index for pair in pairs] == [0, 1]
    assert counts.dropped["max_per_prompt"] == 3


def test_a_reward_model_must_score_the_chosen_side_higher() -> None:
    def reward(prompts: Any, completions: Any) -> list[float]:
        return [1.0 if text.endswith("7") else 0.25 for text in completions]

    settings = PairsSection(reward_model="any", min_reward_gain=0.5)
    pairs, counts = select_pairs(ALL, {"p": PROMPT}, TOKENIZER, settings, reward)
    assert [pair.rejected_ids for pair in pairs] == [WRONG_TO_RIGHT.completion_ids]
    assert counts.dropped["reward_model"] == 3


def test_every_mismatching_rollout_is_a_pair_or_counted_as_dropped() -> None:
    rollouts = [*ALL, rollout([7, 6], [5], finish_reason="length"), rollout([5, 1], None)]
    pairs, counts = select(
        rollouts, truncated="drop", verifier="not_worse", rouge_l="not_worse", max_per_prompt=1
    )
    assert len(pairs) + counts.dropped.total() == counts.mismatching == 5
    assert set(counts.as_dict()["dropped"]) == set(FILTERS)
