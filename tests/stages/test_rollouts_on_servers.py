"""A run whose rollouts two servers compute: the same records, and nothing asked for twice."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from fake_vllm import DropError, FakeVllm
from transformers import AutoModelForCausalLM

from warmup_distill.api import build_rollouts
from warmup_distill.engines import wire
from warmup_distill.errors import RecipeError, RunError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import opened, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe, validate
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.store.artifacts import parts_in, read_notes, read_records

KEY = "sk-CANARYcanaryCANARY"
STAGES = ("prompts", "rollouts", "pairs")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSES", (0.0,))
    monkeypatch.setenv("A_KEY", KEY)


@pytest.fixture(scope="module")
def models() -> list[Any]:
    return [AutoModelForCausalLM.from_pretrained(BUNDLED / one) for one in ("student", "teacher")]


@pytest.fixture
def fakes(models: list[Any]) -> Iterator[list[FakeVllm]]:
    fakes = [FakeVllm(model) for model in models]
    for fake in fakes:
        fake.key = KEY
    yield fakes


def recipe(urls: list[str], **rollouts: Any) -> Recipe:
    engine = {"name": "vllm", "student": urls[0], "teacher": urls[1], "api_key_env": "A_KEY"}
    return validate(
        {
            "teacher": "bundled:teacher", "student": "bundled:student",
            "prompts": {"dataset": "bundled:problems", "limit": 6},
            "rollouts": {"num_samples": 2, "max_new_tokens": 24, "prompts_per_part": 2,
                         "stop_at_mismatch": False, "engine": engine} | rollouts,
        },
        "recipe",
    )  # fmt: skip


def roll_out(fakes: list[FakeVllm], folder: Path, **rollouts: Any) -> None:
    with ExitStack() as stack:
        urls = [stack.enter_context(fake.listening()) for fake in fakes]  # other ports each time
        with opened(recipe(urls, **rollouts), folder) as session:
            for stage in STAGES:
                run_stage(session, stage)


def records(folder: Path, stage: str, kind: Any) -> list[Any]:
    return [*chain(*(read_records(path, kind) for path in parts_in(folder / stage)))]


def servers(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return dict(manifest["stages"]["rollouts"]["counts"]["servers"])


@torch.no_grad()
def test_rollouts_are_what_plain_forward_passes_say(
    fakes: list[FakeVllm], models: list[Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    roll_out(fakes, folder)
    prompts = {one.prompt_id: one.prompt_ids for one in records(folder, "prompts", Prompt)}
    mismatching = 0
    for row in records(folder, "rollouts", Rollout):
        prompt, ids = prompts[row.prompt_id], row.completion_ids
        q, p = (naive.logprobs(model, prompt, ids) for model in models)
        torch.testing.assert_close(torch.tensor(row.student_logprobs), q, atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.tensor(row.teacher_logprobs), p, atol=1e-4, rtol=0)
        over = [t for t, margin in enumerate((q - p).tolist()) if margin > 4.0]
        assert row.mismatch_index == (over[0] if over else None)
        if over:
            mismatching += 1
            assert row.continuation_ids[0] != ids[over[0]]
            prefix = [*prompt, *ids[: over[0]]]
            ref = naive.logprobs(models[0], prefix, row.continuation_ids)
            found = torch.tensor(row.continuation_ref_logprobs)
            torch.testing.assert_close(found, ref, atol=1e-4, rtol=0)
    assert mismatching == len(records(folder, "pairs", Pair)) > 0
    for facts in servers(folder).values():
        assert facts["largest_difference"] < 1e-4 and facts["vllm"] == "0.0-fake"
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_a_run_whose_server_died_goes_on_with_what_is_missing(
    fakes: list[FakeVllm], tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    roll_out(fakes, whole)
    asked = len(fakes[1].bodies)

    def die_later(body: dict[str, Any]) -> None:
        """When the second of three parts is being checked."""
        if len(parts_in(folder / "rollouts")) == 1:
            raise DropError

    fakes[1].bodies.clear()
    fakes[1].before = die_later
    with pytest.raises(RunError, match="the same command goes on from there"):
        roll_out(fakes, folder)
    assert len(parts_in(folder / "rollouts")) == 1
    done = len([body for body in fakes[1].bodies if "seed" in body or "prompt_logprobs" in body])
    fakes[1].before = lambda body: None
    roll_out(fakes, folder)  # on other ports: addresses are no part of what a run is
    assert records(folder, "rollouts", Rollout) == records(whole, "rollouts", Rollout)
    assert done < asked
    fakes[1].bodies.clear()
    roll_out(fakes, folder)
    assert not fakes[1].bodies
    assert servers(folder).keys() == servers(whole).keys() == {"student", "teacher"}


def test_another_threshold_checks_the_same_samples_again(
    fakes: list[FakeVllm], tmp_path: Path
) -> None:
    roll_out(fakes, tmp_path / "run")
    before = [one.completion_ids for one in records(tmp_path / "run", "rollouts", Rollout)]
    fakes[0].bodies.clear()
    with ExitStack() as stack:
        urls = [stack.enter_context(fake.listening()) for fake in fakes]
        with opened(recipe(urls, margin_threshold=2.0), tmp_path / "run", redo=True) as session:
            run_stage(session, "rollouts")
    after = records(tmp_path / "run", "rollouts", Rollout)
    assert [one.completion_ids for one in after] == before
    sampled = [body for body in fakes[0].bodies if body.get("temperature") == 1.0]
    assert not sampled  # the probe draws at another temperature


def test_which_engine_computed_counts_and_where_it_is_does_not(
    fakes: list[FakeVllm], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    roll_out(fakes, folder)
    first = [read_notes(path)["samples"] for path in parts_in(folder / "rollouts")]
    here = recipe(["http://a", "http://b"], engine="transformers")
    assert "engine: transformers\n" in dump_recipe(here)
    with pytest.raises(RunError, match="rollouts.engine"), opened(here, folder):
        pass
    with opened(here, folder, redo=True) as session:
        run_stage(session, "rollouts")
    second = [read_notes(path)["samples"] for path in parts_in(folder / "rollouts")]
    assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollouts": {"engine": "vllm"}}, "name: vllm, student: URL, teacher: URL"),
        ({"rollouts": {"engine": {"name": "vllm", "student": "http://a"}}}, "both servers"),
        ({"rollouts": {"engine": {"student": "http://a"}}}, "no effect without `name: vllm`"),
        ({"rollouts": {"engine": {"name": "vllm", "student": "a", "teacher": "http://b"}}},
         "engine.student: expected an address such as"),
        ({"rollouts": {"engine": {"name": "vllm", "student": f"http://u:{KEY}@a"}}},
         "without a name, a password"),
        ({"rollouts": {"engine": {"name": "vllm", "api_key_env": KEY}}}, "api_key_env"),
        ({"evaluate": {"engine": {"name": "vllm"}}}, "`engine` is for rollouts alone.*vllm serve"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_be_is_refused_before_anything_begins(
    changes: dict[str, Any], message: str
) -> None:
    values = recipe(["http://a", "http://b"]).model_dump(mode="json", exclude_none=True)
    with pytest.raises(RecipeError, match=message):
        validate(values | changes, "recipe")


def test_an_address_is_taken_with_and_without_the_end_of_the_api() -> None:
    one = recipe(["http://a:8000/v1/", "https://b/"])
    assert one == recipe(["http://a:8000", "https://b"])


def test_a_script_that_gives_its_models_cannot_name_servers(models: list[Any]) -> None:
    engine = {"name": "vllm", "student": "http://a", "teacher": "http://b"}
    with pytest.raises(RecipeError, match="engine has no effect here"):
        build_rollouts(*models, "bundled:student", ["2 + 2"], engine=engine)
