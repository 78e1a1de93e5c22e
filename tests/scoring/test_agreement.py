"""How far a model is from the teacher, completion by completion, against plain forward passes."""

import naive
import pytest
import torch
from conftest import random_model
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.engines.paths import packed_model
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.scoring.agreement import agreement, measure_distances

PROMPTS = [[5, 6, 7], [4], [10, 11, 12, 13], [4]]
COMPLETIONS = [[8, 9, 1], [20, 21, 22, 23, 24], [3], [30, 31]]
THRESHOLD = 1.0


@torch.no_grad()
def distributions(model: PreTrainedModel, prompt: list[int], ids: list[int]) -> Tensor:
    """Log-probabilities of all tokens at each place of a completion."""
    return naive.completion_logits(model, prompt, ids).double().log_softmax(-1)


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
def test_sums_of_each_completion_are_those_of_plain_forward_passes(
    vocabulary: Vocabulary, batch_tokens: int
) -> None:
    student, teacher = random_model(1), random_model(2)
    heard: list[int] = []
    found = measure_distances(
        packed_model(student, vocabulary),
        packed_model(teacher, vocabulary),
        PROMPTS,
        COMPLETIONS,
        margin_threshold=THRESHOLD,
        batch_tokens=batch_tokens,
        advance=heard.append,
    )
    assert sum(heard) == sum(map(len, COMPLETIONS))
    for one, prompt, ids in zip(found, PROMPTS, COMPLETIONS, strict=True):
        q, p = (distributions(model, prompt, ids) for model in (student, teacher))
        margins = (q - p).gather(-1, torch.tensor(ids)[:, None])
        assert one.tokens == len(ids)
        assert one.has_mismatch == bool((margins > THRESHOLD).any())
        assert one.margin == pytest.approx(float(margins.sum()), abs=1e-4)
        assert one.forward_kl == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-4)
        assert one.reverse_kl == pytest.approx(float((q.exp() * (q - p)).sum()), abs=1e-4)
    whole = agreement(found)
    assert whole.samples == 4
    assert whole.mean_margin == pytest.approx(sum(one.margin for one in found) / 11)
    assert whole.mismatch_share == sum(one.has_mismatch for one in found) / 4
