"""The engine against the naive reference: separate sequences, no cache, no padding."""

import naive
import pytest
import torch
from transformers import PreTrainedModel

from warmup_distill.engines import Draft
from warmup_distill.engines.decode import invert_cdf
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.randomness import stream
from warmup_distill.records import Sample
from warmup_distill.vocabulary import Vocabulary

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [20], [3, 30, 31, 32]]
STREAMS = [[stream(0, p, i) for i in range(5)] for p in range(len(PROMPTS))]

Models = tuple[PreTrainedModel, PreTrainedModel]


def engine(models: Models, vocabulary: Vocabulary, batch_size: int = 8) -> TransformersEngine:
    return TransformersEngine(*models, vocabulary, batch_size)


def sample(models: Models, vocabulary: Vocabulary, batch_size: int = 8) -> list[list[Sample]]:
    return engine(models, vocabulary, batch_size).sample(
        PROMPTS, STREAMS, max_new_tokens=12, temperature=1.0
    )


def drafts(models: Models, vocabulary: Vocabulary) -> list[Draft]:
    return [
        Draft(prompt_ids=prompt, sample=drawn, stream=stream("teacher", p, i))
        for p, (prompt, group) in enumerate(zip(PROMPTS, sample(models, vocabulary), strict=True))
        for i, drawn in enumerate(group)
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
    small, large = (sample(models, vocabulary, batch_size) for batch_size in (1, 64))
    assert [[s.ids for s in group] for group in small] == [[s.ids for s in g] for g in large]


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
    (group,) = engine(models, vocabulary, batch_size=count).sample(
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
    waiting = drafts(models, vocabulary)
    checks = engine(models, vocabulary).check_and_continue(
        waiting,
        margin_threshold=threshold,
        max_new_tokens=12,
        temperature=1.0,
        stop_at_mismatch=False,
    )
    for draft, check in zip(waiting, checks, strict=True):
        student, teacher = (naive.logprobs(m, draft.prompt_ids, draft.sample.ids) for m in models)
        margins = (student - teacher).tolist()
        over = [t for t, margin in enumerate(margins) if margin > threshold]
        assert check.mismatch_index == (over[0] if over else None)
        expected = margins[over[0]] if over else max(margins)
        assert check.margin == pytest.approx(expected, abs=1e-4)
        torch.testing.assert_close(torch.tensor(check.teacher_logprobs), teacher, atol=1e-4, rtol=0)
        assert (check.continuation is None) == (check.mismatch_index is None)


def test_a_continuation_differs_at_once_and_fits_into_what_is_left(
    models: Models, vocabulary: Vocabulary
) -> None:
    waiting = drafts(models, vocabulary)
    checks = engine(models, vocabulary).check_and_continue(
        waiting,
        margin_threshold=0.5,
        max_new_tokens=12,
        temperature=1.0,
        stop_at_mismatch=True,
    )
    assert any(check.continuation for check in checks)
    for draft, check in zip(waiting, checks, strict=True):
        if check.continuation is None:
            continue
        k = check.mismatch_index
        assert k is not None and len(check.teacher_logprobs) == k + 1
        ending = check.continuation
        assert ending.ids[0] != draft.sample.ids[k]
        assert k + len(ending.ids) <= 12
        assert (ending.ids[-1] == 1) == (ending.finish_reason == "eos")
        prefix = [*draft.prompt_ids, *draft.sample.ids[:k]]
        for model, found in (
            (models[1], ending.logprobs),
            (models[0], check.continuation_ref_logprobs),
        ):
            expected = naive.logprobs(model, prefix, ending.ids)
            torch.testing.assert_close(torch.tensor(found), expected, atol=1e-4, rtol=0)


def test_a_model_agrees_with_itself(models: Models, vocabulary: Vocabulary) -> None:
    same = (models[0], models[0])
    checks = engine(same, vocabulary).check_and_continue(
        drafts(same, vocabulary),
        margin_threshold=1e-3,
        max_new_tokens=12,
        temperature=1.0,
        stop_at_mismatch=True,
    )
    assert all(check.mismatch_index is None for check in checks)


def test_the_inverse_cdf_never_returns_a_token_of_probability_zero() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(4, 1)
    numbers = torch.tensor([0.0, 0.499, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert invert_cdf(probabilities, numbers).tolist() == [1, 1, 3, 3]
