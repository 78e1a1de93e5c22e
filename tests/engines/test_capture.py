"""Recorded steps against plain ones.

What records here is no CUDA graph but `make_fx`: it writes down the operations of one step with the
very tensors that they read and write, and replays them without our code or the model's. A number of
Python that differs between two steps of one shape would be found, for it is written down as what it
was. Where there is a GPU, CUDA graphs themselves are tried.
"""

import logging
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from families import any_model
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import PreTrainedModel
from waiting import never_waiting

from warmup_distill.engines import capture, pace
from warmup_distill.engines.decode import decode
from warmup_distill.engines.pace import Captured, Plain, pace_of
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.repeats import NoRepeat
from warmup_distill.engines.rows import Row
from warmup_distill.engines.score import score
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.model import TreeModel

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20], [30, 31, 32]]
STREAMS = [[stream(p, i) for i in range(4)] for p in range(len(PROMPTS))]
LONGEST = 20
VOCABULARY = Vocabulary(size=40, eos_ids=frozenset({1}), pad_id=0, banned_ids=frozenset({3}))

Models = tuple[PreTrainedModel, PreTrainedModel]


class Again:
    """A recorder that writes nothing down: steps in shapes that last, each run as it is."""

    def __init__(self) -> None:
        self.replays: list[int] = []
        """Of each recording."""

    def warm(self, step: Any) -> None:
        step()

    def record(self, step: Any) -> Any:
        written, number = self.write(step), len(self.replays)
        self.replays.append(0)

        def replay() -> None:
            self.replays[number] += 1
            written()

        return replay

    def write(self, step: Any) -> Any:
        step()
        return step


class Written(Again):
    """A recorder that writes operations down; to replay them may not wait for a device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.monkeypatch = monkeypatch

    def write(self, step: Any) -> Any:
        written = make_fx(lambda: step(), tracing_mode="real")()

        def guarded() -> None:
            with never_waiting(self.monkeypatch):
                written()

        return guarded


def in_small_shapes(recorder: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record steps, in several shapes though texts are short."""
    monkeypatch.setattr(pace, "NARROW", 8)
    monkeypatch.setattr(pace, "FEW", 6)
    monkeypatch.setattr(Captured, "looks_every", 3)
    monkeypatch.setattr(pace, "recorder_of", lambda model: recorder)


def roll_out(models: Models) -> Any:
    """Samples, and checks with continuations."""
    settings = {"max_new_tokens": LONGEST, "temperature": 0.9}
    engine = TransformersEngine(*models, VOCABULARY, 10_000)
    samples = engine.sample(PROMPTS, STREAMS, **settings)
    checks = engine.check_and_continue(
        PROMPTS, samples, STREAMS, margin_threshold=3.0, stop_at_mismatch=False, **settings
    )
    return [one for group in samples for one in group], [one for group in checks for one in group]


def require_alike(found: Any, expected: Any) -> None:
    """The same tokens and ends, and log-probabilities up to the rounding of their sums."""
    for one, other in zip(found[0], expected[0], strict=True):
        require_same(one, other)
    assert any(check.continuation for check in found[1])
    for check, other in zip(found[1], expected[1], strict=True):
        assert check.mismatch_index == other.mismatch_index
        if check.continuation:
            require_same(check.continuation, other.continuation)
            close = pytest.approx(other.continuation_ref_logprobs, abs=1e-5)
            assert check.continuation_ref_logprobs == close


def require_same(one: Any, other: Any) -> None:
    assert (one.ids, one.finish_reason) == (other.ids, other.finish_reason)
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def pair(kind: str) -> Models:
    return any_model(1, kind), any_model(2, kind)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "phi3", "gemma3", "deepseek-v3"])
def test_steps_in_shapes_that_last_draw_what_steps_that_fit_do(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = pair(kind)
    expected, recorder = roll_out(models), Again()
    in_small_shapes(recorder, monkeypatch)
    require_alike(roll_out(models), expected)
    assert sum(recorder.replays) > 0


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt-oss"])
def test_steps_that_were_written_down_once_draw_what_plain_steps_do(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain attention, windows, windows with caps, windows with sinks."""
    models = pair(kind)
    expected, recorder = roll_out(models), Written(monkeypatch)
    in_small_shapes(recorder, monkeypatch)
    require_alike(roll_out(models), expected)
    assert len(recorder.replays) > 3 and max(recorder.replays) > 4


def test_rows_that_ended_write_over_nothing_while_they_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Branches of unlike lengths, of which the longer ones are full long before the others end."""
    model, owners, room = TreeModel(any_model(1), VOCABULARY), [0, 0, 0, 1, 1, 2, 2, 3], 14
    first = {i: [9, 4, 8, 7][: i % 4 + 1] for i in range(len(owners))}
    in_small_shapes(Again(), monkeypatch)
    monkeypatch.setattr(pace, "FEW", len(owners))  # so that nobody leaves
    kept, lengths = [], []
    for recorder in (Again(), None):
        monkeypatch.setattr(pace, "recorder_of", lambda model, by=recorder: by)
        rows = {i: Row(stream=i, max_new_tokens=room - 3 * (i % 4)) for i in range(len(owners))}
        with torch.inference_mode(), model.following():
            tree = TokenTree(model, PROMPTS, owners, room)
            score(tree, first)
            decode(tree, rows, 1.0)
            lengths.append(dict(zip(tree.bring(list(rows)), tree.lengths(), strict=True)))
            kept.append(score(tree, {branch: [9] for branch in rows}))
            tree.cut({branch: min(1, length) for branch, length in lengths[-1].items()})
            kept.append(score(tree, {branch: [9, 6] for branch in rows}))
    assert max(len(row.ids) for row in rows.values()) == room
    assert lengths[0] == lengths[1] == {i: i % 4 + len(rows[i].ids) - 1 for i in rows}
    for found, expected in zip(kept[:2], kept[2:], strict=True):
        for branch, values in found.items():
            assert values == pytest.approx(expected[branch], abs=1e-5)


def test_a_model_that_looks_at_its_numbers_is_run_plainly_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """GPT-2 looks for padding in its tokens."""
    models = pair("gpt2")
    expected, recorder = roll_out(models), Written(monkeypatch)
    in_small_shapes(recorder, monkeypatch)
    monkeypatch.setattr(pace, "recorder_of", capture.recorder_of)
    monkeypatch.setattr(capture, "input_device", lambda model: torch.device("cuda"))
    for model in models:
        monkeypatch.setitem(capture._recorders, model, recorder)
    with caplog.at_level(logging.INFO, logger="warmup_distill"):
        for _ in range(2):
            require_alike(roll_out(models), expected)
    said = [line for line in caplog.messages if "not captured" in line]
    assert len(said) == len(models) and "GPT2LMHeadModel" in said[0]
    assert recorder.replays == []


def test_nothing_is_recorded_on_a_cpu_or_with_hooks_or_where_each_token_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, row = any_model(1), Row(stream=0, max_new_tokens=4)
    assert isinstance(pace_of(model, [row]), Plain)
    monkeypatch.setattr(capture, "input_device", lambda model: torch.device("cuda"))
    monkeypatch.setitem(capture._recorders, model, Again())
    assert isinstance(pace_of(model, [row]), Captured)
    looked_at = Row(stream=1, max_new_tokens=4, no_repeat=NoRepeat(2, [5, 6]))
    assert isinstance(pace_of(model, [row, looked_at]), Plain)
    hook = model.lm_head.register_forward_pre_hook(lambda *_: None)
    assert isinstance(pace_of(model, [row]), Plain)
    hook.remove()
    add_hook_to_module(model, AlignDevicesHook(execution_device="cpu"))
    assert isinstance(pace_of(model, [row]), Plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here to record steps on")
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt-oss"])
def test_cuda_graphs_draw_what_plain_steps_do(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    student, teacher = (model.cuda() for model in pair(kind))
    with monkeypatch.context() as patch:
        patch.setattr(pace, "recorder_of", lambda model: None)
        expected = roll_out((student, teacher))
    graphs = capture.recorder_of(student)
    assert graphs is not None
    in_small_shapes(Again(), monkeypatch)
    monkeypatch.setattr(pace, "recorder_of", capture.recorder_of)
    with caplog.at_level(logging.INFO, logger="warmup_distill"):
        require_alike(roll_out((student, teacher)), expected)
    assert capture.recorder_of(student) is graphs, caplog.messages
