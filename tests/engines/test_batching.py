"""As many tokens at once as fit: counted by hand, settled once, and halved once."""

import gc
import logging
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from test_run import small_recipe
from transformers import Qwen2Config

from warmup_distill.cluster.places import NOBODY, Here
from warmup_distill.cluster.remote import Refused, compute_part
from warmup_distill.engines import fitting as fits
from warmup_distill.engines.batching import Batching, Chosen
from warmup_distill.engines.fitting import Needs, Texts, choose, fitting, round_down
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import RunError, ShortOfMemoryError
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.memory import Memory, attempted, available
from warmup_distill.models.sizes import sizes_of
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.records import Rollout
from warmup_distill.store.artifacts import read_json, read_parts
from warmup_distill.store.stopping import Stopped
from warmup_distill.suites import evaluation
from warmup_distill.suites.evaluation import ask, evaluate_model


def qwen(width: int, inner: int, layers: int, heads: int, key_heads: int, rows: int) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, vocab_size=rows,
    )  # fmt: skip


TEACHER = qwen(3584, 18944, 28, 28, 4, 152064)  # Qwen2.5-7B
STUDENT = qwen(1536, 8960, 28, 12, 2, 151936)  # Qwen2.5-1.5B


def test_keys_and_values_of_known_models_have_their_known_bytes() -> None:
    # In bfloat16: 57.3 and 28.7 kB a token, as published for these shapes.
    assert 2 * sizes_of(TEACHER).cache_numbers == 57_344
    assert 2 * sizes_of(STUDENT).cache_numbers == 28_672
    assert sizes_of(TEACHER).parameters == pytest.approx(7.6e9, rel=0.01)


def test_tokens_on_a_gpu_are_those_that_fit_beside_the_weights() -> None:
    gigabyte = 10**9
    needs = [
        Needs(weights=15 * gigabyte, kept=60_000, passing=200_000, logits=600_000),
        Needs(weights=3 * gigabyte, kept=30_000, passing=90_000, logits=600_000),
    ]
    # Of 80 GB 0.8 are 64. Fixed are 18 GB of weights, 16,384 tokens in the larger model's layer
    # (3,276,800,000) and eight blocks of 2^23 logits (268,435,456).
    # A token takes 60,000 + 30,000 to keep, and as 100 of 100 + 4 x 225 tokens are a prompt's, a
    # tenth of 200,000 in the layer; of 8 x 600,000 bytes of logits one part of 225, for only one
    # token of a completion has them (21,333).
    texts = Texts(prompt=100, completion=225, samples=4)
    found = fitting(Memory(device="GPU", free=80 * gigabyte), needs, texts)
    assert found.computed_from["fixed_bytes"] == 21_545_235_456
    assert found.computed_from["bytes_per_token"] == 131_333
    assert (64 * gigabyte - 21_545_235_456) // 131_333 == 323_260  # at least 262,144
    assert found.tokens == 262_144
    assert found.asked == "auto" and not found.halved


def test_more_than_a_cpu_can_use_is_not_taken_and_a_little_is_always_tried() -> None:
    needs = [Needs(weights=10**9, kept=1000, passing=1000, logits=1000)]
    texts = Texts(prompt=10, completion=100)
    found = fitting(Memory(device="CPU", free=10**12), needs, texts)
    assert found.tokens == 65_536 < found.computed_from["tokens_that_fit"]
    assert fitting(Memory(device="CPU", free=10**6), needs, texts).tokens == 1024


def test_a_teacher_over_two_devices_has_half_of_its_weights_on_each() -> None:
    ref = ModelRef.of("bundled:teacher", "bfloat16", "auto")
    one, two = (fits.needs_of(ref, devices) for devices in (1, 2))
    assert one.weights == 2 * two.weights and one.kept == two.kept


@pytest.mark.parametrize(
    ("tokens", "rounded"),
    [(1, 1), (2, 2), (3, 3), (5, 4), (7, 6), (65_536, 65_536), (98_303, 65_536), (98_304, 98_304),
     (131_071, 98_304)],
)  # fmt: skip
def test_a_little_more_memory_changes_nothing(tokens: int, rounded: int) -> None:
    assert round_down(tokens) == rounded


def test_a_number_that_is_given_is_taken_without_a_look_at_the_memory() -> None:
    place: Any = None
    assert choose(777, place, [], Texts(prompt=1, completion=1)) == Chosen(tokens=777, asked=777)


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("5000000\n")
    (tmp_path / "stat").write_text("anon 1000000\nfile 4000000\n")  # pages of files can go
    monkeypatch.setattr(
        "warmup_distill.models.memory.LIMITS",
        ((str(tmp_path / "max"), str(tmp_path / "stat"), "anon"),),
    )
    assert available() == 4_000_000
    (tmp_path / "max").write_text("max\n")
    assert available() > 4_000_000


def run_out_of(what: str) -> None:
    if what == "gpu":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if what == "python":
        raise MemoryError
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("what", ["gpu", "python", "cpu"])
def test_what_ran_out_of_memory_is_held_by_nobody(what: str) -> None:
    kept: list[Any] = []

    def work() -> None:
        tensor = torch.ones(10)
        kept.append(weakref.ref(tensor))
        run_out_of(what)

    with pytest.raises(ShortOfMemoryError, match="memory") as caught:
        attempted(work)
    gc.collect()
    assert kept[0]() is None
    assert caught.value.__context__ is None


def test_other_errors_are_let_through() -> None:
    with pytest.raises(ZeroDivisionError):
        attempted(lambda: 1 // 0)


class Hungry:
    """A task that asks for more than there is."""

    def __call__(self, item: None, held: Any, meter: Any) -> None:
        run_out_of("cpu")


def test_a_worker_tells_the_driver_that_its_memory_ran_out() -> None:
    *_, last = compute_part(Hungry(), None, "no folder of this machine")
    assert isinstance(last, Refused)
    assert isinstance(pickle.loads(pickle.dumps(last.error)), ShortOfMemoryError)


class Counter:
    def __init__(self) -> None:
        self.advanced = self.settled = 0

    def advance(self, tokens: int) -> None:
        self.advanced += tokens

    def settle(self, tokens: int) -> None:
        self.settled += tokens


def test_tokens_are_halved_once_and_the_count_is_that_of_the_work_that_was_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[Any] = []
    work = Batching(Chosen(tokens=100, asked="auto"), kept.append)
    heard, tried = Counter(), []

    def try_it(tokens: int, meter: Any) -> str:
        tried.append(tokens)
        meter.advance(7)
        meter.settle(9)
        if tokens > 60:
            raise ShortOfMemoryError("there is none")
        return "done"

    with caplog.at_level(logging.WARNING, "warmup_distill"):
        assert work.run(try_it, heard) == "done"
    assert tried == [100, 50] and (heard.advanced, heard.settled) == (7, 9)
    assert kept == [{"tokens": 50, "asked": "auto", "computed_from": {}, "halved": True}]
    assert "there is none" in caplog.text and "50 tokens at once" in caplog.text
    again = Batching(Chosen(**kept[0]))

    def never(tokens: int, meter: Any) -> None:
        raise ShortOfMemoryError("there is none")

    with pytest.raises(ShortOfMemoryError, match="with 50 tokens at once"):
        again.run(never, NOBODY)


RECIPE: dict[str, Any] = {
    "rollouts": {"num_samples": 2, "max_new_tokens": 24, "prompts_per_part": 4},
}


def rolled(folder: Path) -> list[Rollout]:
    return list(read_parts(folder / "rollouts", Rollout))


def settled(folder: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(folder / "manifest.json")["stages"][stage]["settled"]
    return found


def roll_out(folder: Path, **rollouts: Any) -> None:
    with opened(small_recipe(rollouts=RECIPE["rollouts"] | rollouts), folder) as session:
        for stage in ("prompts", "rollouts"):
            run_stage(session, stage)


@pytest.fixture
def small_engine(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An engine for which more than 300 tokens at once are too many; the tokens it was given."""
    given: list[int] = []
    sample = TransformersEngine._sample

    def _sample(self: Any, prompts: Any, owners: Any, rows: Any, temperature: float) -> Any:
        given.append(self.batch_tokens)
        if sum(map(len, prompts)) + sum(row.max_new_tokens for row in rows) > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, prompts, owners, rows, temperature)

    monkeypatch.setattr(TransformersEngine, "_sample", _sample)
    return given


def test_a_stage_that_runs_out_of_memory_goes_on_with_half(
    small_engine: list[int], tmp_path: Path
) -> None:
    roll_out(tmp_path / "halved", batch_tokens=600)  # four prompts of some 80 tokens
    assert set(small_engine) == {600, 300}
    assert settled(tmp_path / "halved", "rollouts")["batch_tokens"] == {
        "tokens": 300, "asked": 600, "computed_from": {}, "halved": True,
    }  # fmt: skip
    roll_out(tmp_path / "half", batch_tokens=300)
    assert rolled(tmp_path / "halved") == rolled(tmp_path / "half")


def test_parts_before_memory_ran_out_are_kept_and_half_is_halved_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, calls = TransformersEngine._sample, []

    def _sample(self: Any, *arguments: Any) -> Any:
        calls.append(self.batch_tokens)
        if len(calls) in (2, 4):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, *arguments)

    monkeypatch.setattr(TransformersEngine, "_sample", _sample)
    with pytest.raises(ShortOfMemoryError, match="5,000 tokens at once"):
        roll_out(tmp_path, batch_tokens=10_000)
    assert calls == [10_000, 10_000, 5_000, 5_000]
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "rollouts").iterdir()}
    assert len(made) == 2
    calls += [0, 0]
    roll_out(tmp_path, batch_tokens=10_000)
    assert calls[6:] == [5_000]  # the third part, as the manifest says
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())


def look_at(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(fits, "memory_of", lambda held: Memory(device="GPU", free=free))


LITTLE, MUCH = 500 * 10**6, 40 * 10**9


def test_a_second_start_goes_on_with_what_the_first_has_settled_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at(monkeypatch, LITTLE)
    roll_out(tmp_path / "whole")
    few = settled(tmp_path / "whole", "rollouts")["batch_tokens"]
    assert few["computed_from"]["free_bytes"] == LITTLE
    given: list[int] = []
    check = TransformersEngine._check
    monkeypatch.setattr(
        TransformersEngine,
        "_check",
        lambda self, *a, **n: given.append(self.batch_tokens) or check(self, *a, **n),
    )
    with monkeypatch.context() as patch:
        patch.setattr("warmup_distill.cluster.places.leave_if_asked", stopped_after(2))
        with pytest.raises(Stopped):
            roll_out(tmp_path / "parts")
    look_at(monkeypatch, MUCH)
    roll_out(tmp_path / "parts")
    assert len(given) == 3 and set(given) == {few["tokens"]}
    ours, theirs = (sorted((tmp_path / one / "rollouts").iterdir()) for one in ("whole", "parts"))
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
    roll_out(tmp_path / "anew")
    assert settled(tmp_path / "anew", "rollouts")["batch_tokens"]["tokens"] > few["tokens"]


def stopped_after(calls: int) -> Any:
    """`leave_if_asked` when a signal comes: the first calls are those that look at the memory."""
    left = [calls + 1]

    def leave() -> None:
        left[0] -= 1
        if not left[0]:
            raise Stopped(15)

    return leave


def test_every_stage_that_draws_says_how_many_tokens_and_why(tmp_path: Path) -> None:
    recipe = small_recipe(
        control=False, distill={"completions": {"source": "teacher"}, "max_steps": 1}
    )
    with opened(recipe, tmp_path) as session:
        for stage in ("prompts", "rollouts", "pairs", "warmup", "distill", "evaluate"):
            run_stage(session, stage)
    for stage in ("rollouts", "warmup", "distill", "evaluate"):
        chosen = settled(tmp_path, stage)["batch_tokens"]
        assert chosen["asked"] == "auto" and chosen["computed_from"]["bytes_per_token"] > 0
    for stage in ("warmup", "distill"):
        assert settled(tmp_path, stage)["row_tokens"]["tokens"] == 16_384


def test_a_suite_goes_on_with_what_it_has_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask("problems", "clean", 8, None, 16, "auto", "float32")
    look_at(monkeypatch, LITTLE)

    def stop(*_: Any, **__: Any) -> Any:
        raise RunError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "draw_each", stop)
        with pytest.raises(RunError, match="stopped here"):
            evaluate_model("bundled:student", tmp_path, question)
    few = read_json(tmp_path / "batching.json")
    look_at(monkeypatch, MUCH)
    (path,) = evaluate_model("bundled:student", tmp_path, question)
    assert read_json(path)["batch_tokens"] == few
    assert few["computed_from"]["free_bytes"] == LITTLE
    assert not (tmp_path / "batching.json").exists()


def test_the_choice_of_a_place_is_that_of_one_of_its_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_at(monkeypatch, LITTLE)
    models, texts = [ModelRef.of("bundled:student", "float32")], Texts(prompt=30, completion=96)
    assert choose("auto", Here(), models, texts) == choose("auto", Here(), models, texts)
