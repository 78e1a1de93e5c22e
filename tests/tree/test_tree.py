"""The token tree against the naive reference, over random trees and five architectures."""

import itertools
from typing import Any

import naive
import pytest
import torch
from conftest import VOCABULARY_SIZE
from families import SMALL, any_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GraniteConfig, GraniteForCausalLM

from warmup_distill.engines.score import score
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.losses import dpo, forward_kl, reverse_kl
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Sample
from warmup_distill.training.chunked import summed_in_parts
from warmup_distill.tree import packed
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import Pack, pack_completions
from warmup_distill.tree.pairs import CHOSEN, PREFIX, REJECTED, PairTree, plant, split_to_rows

KINDS = ["llama", "qwen2", "gpt2", "gemma2", "gpt-oss"]
VOCABULARY = Vocabulary(size=VOCABULARY_SIZE, eos_ids=frozenset({1}), pad_id=0)
MODELS = {kind: (any_model(1, kind), any_model(2, kind)) for kind in KINDS}

# From 1: the models' embedding of padding is zero, and so small a state is noise to a norm.
ids = st.integers(1, VOCABULARY_SIZE - 1)
words = st.lists(ids, min_size=1, max_size=6)
groves = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=4)), min_size=1, max_size=3)
"""Prompts with the completions that grow from them."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def close(found: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(found), expected, atol=1e-4, rtol=0)


def same_gradient(found: Tensor, expected: Any) -> None:
    """To the rounding of sums in another order: a small share of the largest part of a gradient."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=5e-4 * scale, rtol=0)


@settings(max_examples=25, deadline=None)
@given(grove=groves, chunk=st.sampled_from([1, 8, 10_000]), data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_scores_on_a_growing_tree_are_those_of_separate_sequences(
    kind: str, grove: list[Any], chunk: int, data: st.DataObject, monkeypatch_chunk: Any
) -> None:
    monkeypatch_chunk(chunk)
    model = MODELS[kind][0]
    prompts = [prompt for prompt, _ in grove]
    branches = [(p, words) for p, (_, group) in enumerate(grove) for words in group]
    with torch.inference_mode():
        wrapped = TreeModel(model, VOCABULARY)
        with wrapped.following():
            tree = TokenTree(wrapped, prompts, [p for p, _ in branches], capacity=16)
            found = score(tree, {b: words for b, (_, words) in enumerate(branches)})
            # Cut some branches back and let them grow another ending, the others stay away.
            chosen = data.draw(st.sets(st.integers(0, len(branches) - 1), min_size=1))
            cuts = {b: data.draw(st.integers(0, len(branches[b][1]) - 1)) for b in chosen}
            endings = {b: data.draw(words) for b in chosen}
            tree.cut(cuts)
            again = score(tree, endings)
        for b, (p, completion) in enumerate(branches):
            close(found[b], naive.logprobs(model, prompts[p], completion))
        for b, ending in endings.items():
            prefix = [*prompts[branches[b][0]], *branches[b][1][: cuts[b]]]
            close(again[b], naive.logprobs(model, prefix, ending))


@pytest.fixture(scope="module")
def monkeypatch_chunk() -> Any:
    from warmup_distill.engines import score as module

    before = module.TOKENS_AT_ONCE
    yield lambda size: setattr(module, "TOKENS_AT_ONCE", size)
    module.TOKENS_AT_ONCE = before


@pytest.mark.parametrize(
    "completions",
    [
        [[[7]], [[8]]],  # one token each
        [[[1], [1]], [[1]]],  # end-of-sequence at once
        [[[5, 6, 1]] * 3, [[9, 1]] * 2],  # the same sample several times
    ],
)
@pytest.mark.parametrize("threshold", [1e-9, 1e9], ids=["all mismatch at once", "none does"])
def test_degenerate_samples_are_checked_and_continued(
    kind: str, completions: list[list[list[int]]], threshold: float
) -> None:
    student, teacher = MODELS[kind]
    prompts = [[5, 6, 7], [30]]
    # Certain of everything: at a tiny threshold the margin is too large at the first token.
    samples = [
        [Sample(ids=c, logprobs=[0.0] * len(c), finish_reason="length") for c in group]
        for group in completions
    ]
    streams = [[number for number, _ in enumerate(group)] for group in completions]
    checks = TransformersEngine(student, teacher, VOCABULARY, 1000).check_and_continue(
        prompts, samples, streams,
        margin_threshold=threshold, max_new_tokens=4, temperature=1.0, stop_at_mismatch=True,
    )  # fmt: skip
    for prompt, group, found in zip(prompts, completions, checks, strict=True):
        for completion, check in zip(group, found, strict=True):
            assert check.mismatch_index == (0 if threshold < 1 else None)
            expected = naive.logprobs(teacher, prompt, completion)
            close(check.teacher_logprobs, expected[: len(check.teacher_logprobs)])
            if check.continuation is not None:
                ending = check.continuation
                close(ending.logprobs, naive.logprobs(teacher, prompt, ending.ids))
                close(check.continuation_ref_logprobs, naive.logprobs(student, prompt, ending.ids))


pairs = st.lists(
    st.tuples(
        st.sampled_from([[5, 6, 7], [4], [9, 9, 8, 2]]),
        st.lists(ids, max_size=4),
        st.lists(ids.map(lambda i: max(2, i // 2 * 2)), min_size=1, max_size=4),
        st.lists(ids.map(lambda i: i // 2 * 2 + 1), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=5,
)
"""Prompt, shared prefix, chosen and rejected ending; the endings differ at once."""


@settings(max_examples=15, deadline=None)
@given(rows=pairs)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_every_gradient_of_pair_trees_are_those_of_separate_sequences(
    kind: str, rows: list[Any]
) -> None:
    model = any_model(1, kind)
    fast = _dpo_over_tree(model, rows)
    fast.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sums = [
        torch.stack([naive.logprobs(model, prompt, prefix + end[side]).sum() for side in (0, 1)])
        for prompt, prefix, *end in rows
    ]
    chosen, rejected = torch.stack(sums).unbind(-1)
    naive_loss = dpo(chosen, rejected, torch.tensor(0.3), torch.tensor(-0.2), beta=0.1).sum()
    naive_loss.backward()
    torch.testing.assert_close(fast, naive_loss, atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        same_gradient(gradients[name], parameter.grad)


def _dpo_over_tree(model: Any, rows: list[Any]) -> Tensor:
    """The cancellation at work: only the endings are scored."""
    wrapped, batch = TreeModel(model, VOCABULARY), plant(_as_pairs(rows), keep_prefix=False)
    assert (batch["part"] != PREFIX).all()
    with wrapped.following():
        tree = PairTree(batch["prompts"], batch["owners"], batch["parts"])
        hidden = wrapped.hidden(batch["input_ids"], tree)[batch["predictors"]]
        logprobs = wrapped.logprobs(hidden, batch["targets"])
    sums = [
        torch.stack(
            [
                logprobs[(batch["pair"] == number) & (batch["part"] == part)].sum()
                for number in range(len(rows))
            ]
        )
        for part in (CHOSEN, REJECTED)
    ]
    return dpo(*sums, torch.tensor(0.3), torch.tensor(-0.2), beta=0.1).sum()


def _as_pairs(rows: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "prompt_ids": prompt,
            "chosen_ids": prefix + chosen,
            "rejected_ids": prefix + rejected,
            "mismatch_index": len(prefix),
        }
        for prompt, prefix, chosen, rejected in rows
    ]


def test_pairs_of_one_prompt_share_it_and_their_endings_share_the_prefix() -> None:
    batch = plant(_as_pairs([([5, 6], [7, 8], [10, 1], [11, 12, 1])] * 2), keep_prefix=True)
    # Prompt once; then prefix, chosen and rejected of each, without tokens that predict nothing.
    assert batch["input_ids"].tolist() == [5, 6, 7, 8, 10, 11, 12, 7, 8, 10, 11, 12]
    assert batch["parts"].tolist() == [[2, 1, 2]] * 2
    first = batch["pair"] == 0
    assert batch["targets"][first].tolist() == [7, 8, 10, 1, 11, 12, 1]
    assert batch["predictors"][first].tolist() == [1, 2, 3, 4, 3, 5, 6]
    tree = PairTree(batch["prompts"], batch["owners"], batch["parts"])
    assert tree.positions.tolist() == [0, 1, 2, 3, 4, 4, 5, 2, 3, 4, 4, 5]


@given(rows=pairs, room=st.integers(1, 60))
def test_packed_rows_hold_what_they_may_and_all_pairs_in_order(rows: list[Any], room: int) -> None:
    def size(row: list[Any]) -> int:
        """Of the prompts, and of the rectangle in which attention has the branches."""
        batch = plant(row, keep_prefix=False)
        tree = PairTree(batch["prompts"], batch["owners"], batch["parts"])
        branches = tree.branch.shape[0] * tree.branch.shape[1] if tree.branch else 0
        return int(batch["prompts"].sum()) + branches

    found = split_to_rows(_as_pairs(rows), room)
    assert [pair for row in found for pair in row] == _as_pairs(rows)
    assert all(size(row) <= room or len(row) == 1 for row in found)
    for row, following in itertools.pairwise(found):
        assert size([*row, following[0]]) > room


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(words, words), min_size=1, max_size=4), at_once=st.integers(1, 9))
@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_chunked_divergences_have_the_value_and_gradients_of_full_logits(
    kind: str, divergence: Any, rows: list[Any], at_once: int
) -> None:
    student, teacher = any_model(1, kind), any_model(2, kind)
    ours, theirs = (TreeModel(model, VOCABULARY) for model in (student, teacher))
    batch = pack_completions(*zip(*rows, strict=True))
    pack = Pack(batch["lengths"].tolist(), torch.device("cpu"))
    with ours.following(), theirs.following():
        states = ours.hidden(batch["input_ids"], pack)[batch["predictors"]]
        reference = theirs.hidden(batch["input_ids"], pack)[batch["predictors"]].detach()

    def part(hidden: Tensor, some: slice) -> Tensor:
        mask = torch.ones(len(hidden), dtype=torch.bool)
        return divergence(theirs.logits(reference[some]), ours.logits(hidden), mask).sum()

    fast = 3 * summed_in_parts(part, states, ours.head.parameters(), at_once)
    fast.backward()
    gradients = {name: p.grad.clone() for name, p in student.named_parameters()}
    student.zero_grad()
    full = []
    for prompt, completion in rows:
        p, q = (naive.completion_logits(m, prompt, completion) for m in (teacher, student))
        full.append(divergence(p.detach(), q, torch.ones(len(q), dtype=torch.bool)).sum())
    expected = 3 * torch.stack(full).sum()
    expected.backward()
    torch.testing.assert_close(fast, expected, atol=1e-4, rtol=1e-5)
    for name, parameter in student.named_parameters():
        same_gradient(gradients[name], parameter.grad)


def test_blocks_of_log_probabilities_have_the_gradients_of_all_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [([5, 6, 7], [2], [8, 3], [9, 1]), ([5, 6, 7], [], [8, 8, 8], [9, 9, 9, 9])]
    gradients = []
    for at_once in (2**25, 3 * VOCABULARY_SIZE):
        monkeypatch.setattr(packed, "LOGITS_AT_ONCE", at_once)
        model = any_model(1, kind)
        _dpo_over_tree(model, rows).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_what_a_family_does_to_its_logits_is_done() -> None:
    model = GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0)).eval()
    with torch.inference_mode():
        wrapped = TreeModel(model, VOCABULARY)
        with wrapped.following():
            tree = TokenTree(wrapped, [[5, 6]], [0], capacity=4)
            found = score(tree, {0: [7, 8, 9]})
        close(found[0], naive.logprobs(model, [5, 6], [7, 8, 9]))


def test_the_users_model_gets_its_attention_back() -> None:
    model = any_model(1)
    before = model.config._attn_implementation
    engine = TransformersEngine(model, model, VOCABULARY, 1000)
    engine.sample([[5, 6, 7]], [[0]], max_new_tokens=4, temperature=1.0)
    assert model.config._attn_implementation == before
