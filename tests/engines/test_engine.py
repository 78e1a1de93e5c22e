"""The engine against the naive reference: separate sequences, no cache, no padding."""

import naive
import pytest
import torch
from conftest import padded, random_model
from transformers import PreTrainedModel

from warmup_distill.engines.picking import BLOCK, invert_cdf
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [20], [3, 30, 31, 32]]
STREAMS = [[stream(0, p, i) for i in range(5)] for p in range(len(PROMPTS))]

Models = tuple[PreTrainedModel, PreTrainedModel]


TEACHER_STREAMS = [[stream("teacher", p, i) for i in range(5)] for p in range(len(PROMPTS))]
LONGEST = 12
BUDGETS = [1, 150, 10_000]
"""Tokens: one prompt at a time, two or three of them, all at once."""


def engine(models: Models, vocabulary: Vocabulary, batch_tokens: int = 150) -> TransformersEngine:
    return TransformersEngine(*models, vocabulary, batch_tokens)


def draw(by: TransformersEngine) -> list[list[Sample]]:
    return by.sample(PROMPTS, STREAMS, max_new_tokens=LONGEST, temperature=1.0)


def sample(models: Models, vocabulary: Vocabulary, batch_tokens: int = 150) -> list[list[Sample]]:
    return draw(engine(models, vocabulary, batch_tokens))


Checked = list[tuple[list[int], Sample, Check]]


def check(
    by: TransformersEngine, samples: list[list[Sample]], threshold: float, *, stop: bool
) -> Checked:
    """Prompt, sample and check of every completion."""
    checks = by.check_and_continue(
        PROMPTS,
        samples,
        TEACHER_STREAMS,
        margin_threshold=threshold,
        max_new_tokens=LONGEST,
        temperature=1.0,
        stop_at_mismatch=stop,
    )
    return [
        (prompt, *pair)
        for prompt, *groups in zip(PROMPTS, samples, checks, strict=True)
        for pair in zip(*groups, strict=True)
    ]


def test_sampled_logprobs_are_those_of_a_separate_forward_pass(
    models: Models, vocabulary: Vocabulary
) -> None:
    for prompt, group in zip(PROMPTS, sample(models, vocabulary), strict=True):
        for drawn in group:
            expected = naive.logprobs(models[0], prompt, drawn.ids)
            torch.testing.assert_close(torch.tensor(drawn.logprobs), expected, atol=1e-4, rtol=0)


def test_a_draw_does_not_depend_on_the_company_in_the_batch(
    models: Models, vocabulary: Vocabulary
) -> None:
    first, *others = (sample(models, vocabulary, budget) for budget in BUDGETS)
    for other in others:
        assert [[s.ids for s in group] for group in other] == [[s.ids for s in g] for g in first]


def test_completions_end_at_end_of_sequence_or_at_the_limit(
    models: Models, vocabulary: Vocabulary
) -> None:
    everything = [drawn for group in sample(models, vocabulary) for drawn in group]
    assert {drawn.finish_reason for drawn in everything} == {"eos", "length"}
    for drawn in everything:
        assert 1 not in drawn.ids[:-1]
        assert (drawn.ids[-1] == 1) == (drawn.finish_reason == "eos")
        assert drawn.finish_reason == "eos" or len(drawn.ids) == 12


def test_greedy_takes_the_likeliest_token_each_time(models: Models, vocabulary: Vocabulary) -> None:
    (group,) = engine(models, vocabulary).sample(
        PROMPTS[:1], [[0]], max_new_tokens=6, temperature=0.0
    )
    ids = list(PROMPTS[0])
    for token in group[0].ids:
        assert token == int(models[0](input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)


def test_samples_follow_the_models_distribution(models: Models, vocabulary: Vocabulary) -> None:
    count = 4000
    (group,) = engine(models, vocabulary, batch_tokens=count).sample(
        [[5, 6]], [[stream("many", i) for i in range(count)]], max_new_tokens=1, temperature=1.0
    )
    seen = torch.bincount(torch.tensor([s.ids[0] for s in group]), minlength=40) / count
    expected = models[0](input_ids=torch.tensor([[5, 6]])).logits[0, -1].softmax(-1)
    # Five standard errors of a share, at most sqrt(p / n) each.
    assert ((seen - expected).abs() <= 5 * (expected / count).sqrt() + 1e-3).all()


@pytest.mark.parametrize("threshold", [0.5, 4.0, 1e9])
def test_check_finds_the_first_margin_above_the_threshold(
    models: Models, vocabulary: Vocabulary, threshold: float
) -> None:
    samples = sample(models, vocabulary)
    for prompt, drawn, found in check(engine(models, vocabulary), samples, threshold, stop=False):
        student, teacher = (naive.logprobs(m, prompt, drawn.ids) for m in models)
        margins = (student - teacher).tolist()
        over = [t for t, margin in enumerate(margins) if margin > threshold]
        assert found.mismatch_index == (over[0] if over else None)
        expected = margins[over[0]] if over else max(margins)
        assert found.margin == pytest.approx(expected, abs=1e-4)
        torch.testing.assert_close(torch.tensor(found.teacher_logprobs), teacher, atol=1e-4, rtol=0)
        assert (found.continuation is None) == (found.mismatch_index is None)


@pytest.mark.parametrize("fresh", [False, True], ids=["tree kept", "tree made again"])
def test_a_continuation_differs_at_once_and_fits_into_what_is_left(
    models: Models, vocabulary: Vocabulary, fresh: bool
) -> None:
    by = engine(models, vocabulary, batch_tokens=10_000)
    samples = draw(by)
    by = engine(models, vocabulary) if fresh else by
    found = check(by, samples, 0.5, stop=True)
    assert any(checked.continuation for _, _, checked in found)
    for prompt, drawn, checked in found:
        if checked.continuation is None:
            continue
        k = checked.mismatch_index
        assert k is not None and len(checked.teacher_logprobs) == k + 1
        ending = checked.continuation
        assert ending.ids[0] != drawn.ids[k]
        assert k + len(ending.ids) <= LONGEST
        assert (ending.ids[-1] == 1) == (ending.finish_reason == "eos")
        prefix = [*prompt, *drawn.ids[:k]]
        for model, values in (
            (models[1], ending.logprobs),
            (models[0], checked.continuation_ref_logprobs),
        ):
            expected = naive.logprobs(model, prefix, ending.ids)
            torch.testing.assert_close(torch.tensor(values), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("threshold", [0.5, 4.0])
def test_stopping_at_the_mismatch_and_the_budget_change_nothing_else(
    models: Models, vocabulary: Vocabulary, threshold: float
) -> None:
    samples = sample(models, vocabulary)
    runs = [
        [
            (checked.mismatch_index, checked.continuation and checked.continuation.ids)
            for _, _, checked in check(
                engine(models, vocabulary, budget), samples, threshold, stop=stop
            )
        ]
        for budget in BUDGETS
        for stop in (True, False)
    ]
    assert all(run == runs[0] for run in runs)


def test_a_model_agrees_with_itself(models: Models, vocabulary: Vocabulary) -> None:
    by = engine((models[0], models[0]), vocabulary)
    found = check(by, draw(by), 1e-3, stop=True)
    assert all(checked.mismatch_index is None for _, _, checked in found)


def test_the_inverse_cdf_never_returns_a_token_of_probability_zero() -> None:
    probabilities = torch.zeros(4, BLOCK)
    probabilities[:, [1, 3]] = 0.5
    numbers = torch.tensor([0.0, 0.499, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert invert_cdf(probabilities, numbers).tolist() == [1, 1, 3, 3]


def test_heads_padded_to_unlike_sizes_change_no_draw_and_no_check(vocabulary: Vocabulary) -> None:
    """In small what Qwen2.5 does: 152,064 and 151,936 rows for 151,665 tokens."""
    found = []
    for rows in (None, (44, 48)):
        pair = random_model(1, "qwen2"), random_model(2, "qwen2")
        if rows:
            pair = padded(pair[0], rows[0]), padded(pair[1], rows[1])
        by = engine(pair, vocabulary)
        found.append(check(by, draw(by), 1.0, stop=False))
    for (_, drawn, checked), (_, again, rechecked) in zip(*found, strict=True):
        assert drawn.ids == again.ids
        assert checked.mismatch_index == rechecked.mismatch_index
        assert checked.teacher_logprobs == pytest.approx(rechecked.teacher_logprobs, abs=1e-4)
