"""The engine on servers against the default engine and the naive reference: same numbers."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import Any

import naive
import pytest
import torch
from conftest import random_model
from fake_vllm import DropError, FakeVllm, RefusalError
from transformers import PreTrainedModel

from warmup_distill.engines import wire
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.served import Served
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.engines.vllm import VllmEngine
from warmup_distill.engines.wire import Address, names_in_recipe
from warmup_distill.errors import RunError
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Check, Sample

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [20], [3, 30, 31, 32]]
STREAMS = [[stream(0, p, i) for i in range(3)] for p in range(len(PROMPTS))]
TEACHER_STREAMS = [[stream("teacher", p, i) for i in range(3)] for p in range(len(PROMPTS))]
LONGEST, THRESHOLD = 10, 2.5

Pair = tuple[FakeVllm, FakeVllm]
Connect = Callable[..., VllmEngine]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def pair() -> tuple[PreTrainedModel, PreTrainedModel]:
    return random_model(1, "qwen2"), random_model(2, "qwen2")


@pytest.fixture
def fakes(pair: tuple[PreTrainedModel, PreTrainedModel]) -> Pair:
    """Servers whose models would stop at another token than ours."""
    return FakeVllm(pair[0], ends=(7,)), FakeVllm(pair[1], ends=(7,))


@pytest.fixture
def connect(fakes: Pair, vocabulary: Vocabulary) -> Iterator[Connect]:
    with ExitStack() as stack:

        def connected(
            vocabulary: Vocabulary = vocabulary,
            advance: Callable[[int], object] = lambda tokens: None,
            **changes: Any,
        ) -> VllmEngine:
            return VllmEngine(
                *(address(fake, stack.enter_context(fake.listening()), **changes)
                  for fake in fakes),
                vocabulary=vocabulary,
                advance=advance,
            )  # fmt: skip

        yield connected


def address(fake: FakeVllm, url: str, **changes: Any) -> Address:
    known: dict[str, Any] = {
        "role": "student", "url": url, "expected": "org/model", "dtype": "float32",
        "name": "served", "head": fake.model.config.vocab_size, "timeout": 20.0, "concurrency": 8,
        "names": names_in_recipe("student"),
    }  # fmt: skip
    return Address(**(known | changes))


def draw(engine: Any, temperature: float = 1.0) -> list[list[Sample]]:
    drawn: list[list[Sample]] = engine.sample(
        PROMPTS, STREAMS, max_new_tokens=LONGEST, temperature=temperature
    )
    return drawn


def check(
    engine: Any, samples: list[list[Sample]], *, stop: bool = False, temperature: float = 1.0
) -> list[list[Check]]:
    checks: list[list[Check]] = engine.check_and_continue(
        PROMPTS, samples, TEACHER_STREAMS, margin_threshold=THRESHOLD, max_new_tokens=LONGEST,
        temperature=temperature, stop_at_mismatch=stop,
    )  # fmt: skip
    return checks


def close(found: list[float] | None, expected: Any) -> None:
    assert found is not None
    expected = torch.as_tensor(expected)
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-4, rtol=0)


def test_sampled_logprobs_are_those_of_a_separate_forward_pass(
    connect: Connect, pair: tuple[PreTrainedModel, PreTrainedModel]
) -> None:
    reasons = set()
    for prompt, group in zip(PROMPTS, draw(connect(), temperature=1.5), strict=True):
        for drawn in group:
            close(drawn.logprobs, naive.logprobs(pair[0], prompt, drawn.ids))
            assert 1 not in drawn.ids[:-1]
            assert (drawn.ids[-1] == 1) == (drawn.finish_reason == "eos")
            assert drawn.finish_reason == "eos" or len(drawn.ids) == LONGEST
            reasons.add(drawn.finish_reason)
    assert reasons == {"eos", "length"}


def test_samples_follow_the_models_distribution_whatever_the_server_s_defaults(
    connect: Connect, pair: tuple[PreTrainedModel, PreTrainedModel]
) -> None:
    count = 1500
    (group,) = connect(concurrency=16).sample(
        [[5, 6]], [[stream("many", i) for i in range(count)]], max_new_tokens=1, temperature=1.0
    )
    seen = torch.bincount(torch.tensor([s.ids[0] for s in group]), minlength=40) / count
    expected = pair[0](input_ids=torch.tensor([[5, 6]])).logits[0, -1].softmax(-1)
    # Five standard errors of a share, at most sqrt(p / n) each.
    assert ((seen - expected).abs() <= 5 * (expected / count).sqrt() + 2e-3).all()


@pytest.mark.parametrize("stop", [True, False])
def test_the_default_engine_finds_the_same_mismatches_in_the_same_samples(
    stop: bool, connect: Connect, vocabulary: Vocabulary,
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:  # fmt: skip
    engine = connect()
    samples = draw(engine)
    found = chain(*check(engine, samples, stop=stop))
    expected = chain(*check(TransformersEngine(*pair, vocabulary, 1000), samples, stop=stop))
    indices = set()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.mismatch_index == theirs.mismatch_index
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-4)
        close(ours.teacher_logprobs, theirs.teacher_logprobs)
        assert (ours.continuation is None) == (theirs.continuation is None)
        indices.add(ours.mismatch_index)
    assert None in indices and len(indices) > 3


def test_greedy_samples_and_continuations_are_those_of_the_default_engine(
    connect: Connect, vocabulary: Vocabulary, pair: tuple[PreTrainedModel, PreTrainedModel]
) -> None:
    engine, default = connect(), TransformersEngine(*pair, vocabulary, 1000)
    samples = draw(engine, 0.0)
    ids = [[one.ids for one in group] for group in samples]
    assert ids == [[one.ids for one in group] for group in draw(default, 0.0)]
    continued = 0
    for ours, theirs in zip(
        chain(*check(engine, samples, temperature=0.0)),
        chain(*check(default, samples, temperature=0.0)),
        strict=True,
    ):
        if theirs.continuation is None or ours.continuation is None:
            assert ours.continuation is None is theirs.continuation
            continue
        continued += 1
        assert ours.continuation.ids == theirs.continuation.ids
        assert ours.continuation.finish_reason == theirs.continuation.finish_reason
        close(ours.continuation.logprobs, theirs.continuation.logprobs)
        close(ours.continuation_ref_logprobs, theirs.continuation_ref_logprobs)
    assert continued > 3


def test_a_continuation_differs_at_once_and_its_logprobs_know_of_no_ban(
    connect: Connect, pair: tuple[PreTrainedModel, PreTrainedModel]
) -> None:
    engine = connect()
    samples = draw(engine)
    continued = 0
    for prompt, group, checks in zip(PROMPTS, samples, check(engine, samples), strict=True):
        for sample, found in zip(group, checks, strict=True):
            ending, k = found.continuation, found.mismatch_index
            if ending is None or k is None:
                continue
            continued += 1
            prefix = [*prompt, *sample.ids[:k]]
            assert ending.ids[0] != sample.ids[k] and k + len(ending.ids) <= LONGEST
            close(ending.logprobs, naive.logprobs(pair[1], prefix, ending.ids))
            ref = naive.logprobs(pair[0], prefix, ending.ids)
            close(found.continuation_ref_logprobs, ref)
    assert continued > 3


def test_a_forbidden_first_token_is_asked_for_by_itself(connect: Connect, fakes: Pair) -> None:
    engine = connect()
    checks = check(engine, draw(engine))
    banning = [body for body in fakes[1].bodies if body.get("logit_bias")]
    assert len(banning) == sum(one.continuation is not None for one in chain(*checks))
    assert all(body["max_tokens"] == 1 for body in banning)
    assert all([*body["logit_bias"].values()] == [-100.0] for body in banning)
    with pytest.raises(RunError, match="in spite of a bias"):
        fakes[1].honours_bias = False
        samples = [[Sample(ids=[9] * 4, logprobs=[0.0] * 4, finish_reason="length")] * 3] * 4
        greedy = random_argmax(fakes[1].model, PROMPTS[0])
        samples[0] = [Sample(ids=[greedy] * 4, logprobs=[9.0] * 4, finish_reason="length")] * 3
        check(engine, samples, temperature=0.0)


def random_argmax(model: PreTrainedModel, prompt: list[int]) -> int:
    return int(model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())


def test_a_completion_hangs_on_its_stream_alone(connect: Connect, fakes: Pair) -> None:
    wide, narrow = connect(), connect(concurrency=1)
    together = draw(wide)
    assert [[s.ids for s in g] for g in draw(narrow)] == [[s.ids for s in g] for g in together]
    (alone,) = narrow.sample(
        [PROMPTS[1]], [[STREAMS[1][2]]], max_new_tokens=LONGEST, temperature=1.0
    )
    assert alone[0] == together[1][2]
    seeds = [body["seed"] for body in fakes[0].bodies[:12]]
    assert sorted(seeds) == sorted(stream(key, 0) >> 1 for key in chain(*STREAMS))
    assert all(0 <= seed < 2**63 for seed in seeds) and len(set(seeds)) == 12


def test_no_two_requests_of_a_continuation_share_a_seed(connect: Connect, fakes: Pair) -> None:
    engine = connect()
    check(engine, draw(engine))
    drawing = [body["seed"] for body in fakes[1].bodies if "seed" in body]
    assert len(drawing) > 12 and len(set(drawing)) == len(drawing)


@pytest.mark.parametrize("bound", [1, 3])
def test_no_more_requests_are_in_flight_than_the_bound(
    bound: int, connect: Connect, fakes: Pair
) -> None:
    full = threading.Event()

    def wait_for_others(body: dict[str, Any]) -> None:
        if fakes[0].in_flight == bound:
            full.set()
        full.wait(20)

    fakes[0].before = wait_for_others
    draw(connect(concurrency=bound))
    assert fakes[0].most_in_flight == bound


def test_tokens_are_counted_as_the_protocol_says(connect: Connect) -> None:
    counts: list[int] = []
    engine = connect(advance=counts.append)
    samples = draw(engine)
    drawn = sum(len(one.ids) for one in chain(*samples))
    assert sum(counts) == drawn and len(counts) == 12
    checks = check(engine, samples)
    continued = sum(len(one.continuation.ids) for one in chain(*checks) if one.continuation)
    assert sum(counts) == 2 * drawn + continued


def test_ids_that_both_models_do_not_share_are_never_drawn_and_leave_the_others_their_shares(
    vocabulary: Vocabulary,
) -> None:
    """A head of 44 rows for 40 tokens, its padding as loud as its tokens; two more are banned."""
    model = random_model(1, "qwen2")
    model.resize_token_embeddings(44, mean_resizing=False)
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight[40:] = weight[20:24] * 1.1
    banned = replace(vocabulary, banned_ids=frozenset({2, 3}))
    fake, count = FakeVllm(model), 600
    with fake.listening() as url:
        engine = VllmEngine(address(fake, url), address(fake, url), banned)
        (many,) = engine.sample(
            [[5, 6]], [[stream("many", i) for i in range(count)]], max_new_tokens=1, temperature=1.0
        )
        (long,) = engine.sample(
            [[5, 6]], [[stream("long", i) for i in range(40)]], max_new_tokens=20, temperature=1.0
        )
    biased = {len(body["prompt"]) for body in fake.bodies if body["logit_bias"]}
    assert 2 in biased and len(biased) > 3  # at the first place, and further on
    never = {2, 3, *range(40, 44)}
    assert not never & {token for one in (*many, *long) for token in one.ids}
    logits = model(input_ids=torch.tensor([[5, 6]])).logits[0, -1]
    logits[list(never)] = -math.inf
    expected = logits.softmax(-1)
    seen = torch.bincount(torch.tensor([one.ids[0] for one in many]), minlength=44) / count
    assert ((seen - expected).abs() <= 5 * (expected / count).sqrt() + 2e-3).all()
    for one in long:
        close(one.logprobs, naive.logprobs(model, [5, 6], one.ids))
        assert one.ids[-1] == 1 or len(one.ids) == 20


def test_a_forbidden_first_token_stays_forbidden_where_the_draw_is_repeated(
    vocabulary: Vocabulary,
) -> None:
    """The likeliest token is none that may be drawn, the next one is the one that is forbidden."""
    model = random_model(1, "qwen2")
    order = model(input_ids=torch.tensor([[5, 6]])).logits[0, -1].argsort(descending=True).tolist()
    never, forbidden, third = order[:3]
    fake = FakeVllm(model)

    async def draw_first(url: str) -> Sample:
        async with wire.connected(address(fake, url)) as connection:
            shared = replace(vocabulary, banned_ids=frozenset({never}))
            served = Served(wire=connection, vocabulary=shared)
            return await served.draw(
                [5, 6], 0, max_new_tokens=1, temperature=0.0, banned=[forbidden]
            )

    with fake.listening() as url:
        assert asyncio.run(draw_first(url)).ids == [third]
    assert len(fake.bodies) == 2


@pytest.mark.parametrize("fault", [500, 503, 429, "drop"])
def test_a_passing_fault_is_tried_again_and_changes_nothing(
    fault: Any, connect: Connect, fakes: Pair
) -> None:
    expected = draw(connect())
    seen: list[Any] = []

    def fail_every_other(body: dict[str, Any]) -> None:
        seen.append(body)
        if seen.count(body) == 1:
            raise DropError if fault == "drop" else RefusalError(fault, "not now")

    fakes[0].before = fail_every_other
    assert draw(connect()) == expected
    assert len(seen) == 24


def test_no_answer_in_time_is_tried_again(connect: Connect, fakes: Pair) -> None:
    release = threading.Event()
    seen: list[Any] = []

    def hang_once(body: dict[str, Any]) -> None:
        seen.append(body)
        if len(seen) == 1:
            release.wait(20)

    fakes[0].before = hang_once
    engine = connect(timeout=1.0)
    (group,) = engine.sample([[5]], [[1]], max_new_tokens=2, temperature=1.0)
    release.set()
    assert len(seen) == 2 and seen[0] == seen[1] and group[0].ids
