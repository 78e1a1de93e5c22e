"""Drawing step by step: when rows are looked at changes nothing, and no step waits to look."""

from typing import Any

import naive
import pytest
import torch
from conftest import random_model
from families import any_model
from torch import Tensor
from waiting import never_waiting

from warmup_distill.engines import decode as decoding
from warmup_distill.engines.decode import decode
from warmup_distill.engines.pace import Plain
from warmup_distill.engines.randomness import keys_of, stream, uniforms
from warmup_distill.engines.rows import Row
from warmup_distill.engines.score import score
from warmup_distill.engines.steps import Steps
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import NumbersError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.model import TreeModel

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [20]]
STREAMS = [[stream(p, i) for i in range(4)] for p in range(len(PROMPTS))]
LONGEST = 12


def split_mix(key: int, position: int) -> float:
    """By whole numbers of Python, from the paper's figure 17."""
    mixed = (key + (position + 1) * 0x9E3779B97F4A7C15) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
    return float((mixed ^ (mixed >> 31)) >> 11) / 2**53


def test_random_numbers_are_those_of_the_published_generator_bit_for_bit() -> None:
    keys = [0, 1, 2**63 - 1, 2**63, 2**64 - 1, *(stream("u", i) for i in range(500))]
    places = [0, 1, 77, 4096, 2**40]
    found = uniforms(keys_of(keys)[:, None], torch.tensor(places))
    assert found.tolist() == [[split_mix(key, place) for place in places] for key in keys]
    # What every implementation of SplitMix64 says first for the seed 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = uniforms(keys_of([1234567]), torch.arange(3))
    assert found.tolist() == [(number >> 11) / 2**53 for number in published]


def roll_out(
    models: Any, vocabulary: Vocabulary, prompts: list[list[int]] = PROMPTS, **more: Any
) -> tuple[list[Sample], list[Check]]:
    settings = {"max_new_tokens": LONGEST, "temperature": 0.9} | more
    engine = TransformersEngine(*models, vocabulary, 10_000)
    samples = engine.sample(prompts, STREAMS[: len(prompts)], **settings)
    checks = engine.check_and_continue(
        prompts, samples, STREAMS[: len(prompts)],
        margin_threshold=3.0, stop_at_mismatch=False, **settings,
    )  # fmt: skip
    return [one for group in samples for one in group], [one for group in checks for one in group]


@pytest.mark.parametrize("looks_every", [2, 3, 5, 100])
def test_how_often_rows_are_looked_at_changes_no_record(
    looks_every: int, models: Any, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plain, "looks_every", 1)
    samples, checks = roll_out(models, vocabulary)
    assert {one.finish_reason for one in samples} == {"eos", "length"}
    assert len({one.mismatch_index for one in checks}) > 2
    monkeypatch.setattr(Plain, "looks_every", looks_every)
    again, rechecked = roll_out(models, vocabulary)
    continued = [
        [one.continuation for one in some if one.continuation] for some in (checks, rechecked)
    ]
    for one, other in zip(samples + continued[0], again + continued[1], strict=True):
        assert (one.ids, one.finish_reason) == (other.ids, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    for one, other in zip(checks, rechecked, strict=True):
        assert one.mismatch_index == other.mismatch_index
        if one.continuation_ref_logprobs is not None:
            expected = pytest.approx(other.continuation_ref_logprobs, abs=1e-5)
            assert one.continuation_ref_logprobs == expected


def test_rows_stay_within_the_longest_text_that_a_model_can_read(vocabulary: Vocabulary) -> None:
    """GPT-2 looks its positions up in a table, here of 128."""
    pair = random_model(1, "gpt2"), random_model(2, "gpt2")
    samples, _ = roll_out(pair, vocabulary, [[5, 6] * 59 + [7, 8]], max_new_tokens=8)
    assert max(len(one.ids) for one in samples) == 8


def spoil(model: Any, token: int) -> None:
    """Nothing that comes right after this token is a number."""
    seen: dict[str, Tensor] = {}
    body = model.get_decoder()
    body.embed_tokens.register_forward_pre_hook(lambda _, given: seen.update(ids=given[0]))
    body.norm.register_forward_hook(
        lambda _, given, states: states.masked_fill((seen["ids"] == token)[..., None], torch.nan)
    )


def test_what_is_drawn_after_an_end_is_of_no_consequence(vocabulary: Vocabulary) -> None:
    pair = random_model(1), random_model(2)
    samples, checks = roll_out(pair, vocabulary)
    for model in pair:
        spoil(model, 1)
    assert (samples, checks) == roll_out(pair, vocabulary)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_are_not_finite_are_found_before_anything_is_written(
    temperature: float, vocabulary: Vocabulary
) -> None:
    model = random_model(1)
    engine = TransformersEngine(model, model, vocabulary, 10_000)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(NumbersError, match="not finite"):
        engine.sample(PROMPTS, STREAMS, max_new_tokens=LONGEST, temperature=temperature)


def test_a_branch_is_as_long_as_what_was_kept_of_it_and_grows_on(vocabulary: Vocabulary) -> None:
    model = TreeModel(random_model(1), vocabulary)
    owners = [prompt for prompt, _ in enumerate(PROMPTS) for _ in range(3)]
    rows = {i: Row(stream=i, max_new_tokens=LONGEST) for i in range(len(owners))}
    with torch.inference_mode(), model.following():
        tree = TokenTree(model, PROMPTS, owners, 2 * LONGEST)
        decode(tree, rows, 1.0)
        assert len({len(row.ids) for row in rows.values()}) > 2
        order = tree.bring(list(rows))
        assert tree.lengths() == [len(rows[branch].ids) - 1 for branch in order]
        found = score(tree, {branch: [9, 3, 4] for branch in rows})
    for branch, row in rows.items():
        text = [*PROMPTS[owners[branch]], *row.ids[:-1]]
        expected = naive.logprobs(model.model, text, [9, 3, 4])
        torch.testing.assert_close(torch.tensor(found[branch]), expected, atol=1e-4, rtol=0)


# GPT-2 itself looks at its ids.
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gemma2", "gpt-oss"])
@pytest.mark.parametrize("lengths", ["alike", "unlike"])
def test_no_step_waits_for_the_device(
    lengths: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary(size=40, eos_ids=frozenset({1}), pad_id=0, banned_ids=frozenset({3}))
    model = TreeModel(any_model(1, kind), vocabulary)
    owners = [0, 0, 1, 2, 2]
    rows = {i: Row(stream=i, max_new_tokens=LONGEST) for i in range(len(owners))}
    looks = []
    step, take = Steps.step, decoding._take

    def guarded(self: Steps) -> None:
        with never_waiting(monkeypatch):
            step(self)

    def looked(*args: Any) -> Any:
        looks.append(1)
        return take(*args)

    with torch.inference_mode(), model.following():
        tree = TokenTree(model, PROMPTS, owners, 2 * LONGEST)
        if lengths == "unlike":
            score(tree, {0: [5, 6, 7], 2: [8, 9], 3: [4] * 7})
        model.logits(tree.tips(), banned=-torch.inf)  # what is made once may be read once
        monkeypatch.setattr(Steps, "step", guarded)
        monkeypatch.setattr(decoding, "_take", looked)
        decode(tree, rows, 1.0)
    rest = max(len(row.ids) for row in rows.values()) - 1  # the first is drawn without a step
    assert len(looks) == 1 + -(-rest // Plain.looks_every) < rest
