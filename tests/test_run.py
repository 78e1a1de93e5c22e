"""A whole run on the bundled pair, held against the contract by an independent computation."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from warmup_distill.errors import RecipeError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.pipeline import opened, run, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import load_recipe

STAGES = ["prompts", "rollouts", "pairs", "warmup", "distill", "control", "evaluate", "report"]


def small_recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "teacher": "bundled:teacher",
        "student": "bundled:student",
        "control": True,
        "prompts": {"dataset": "bundled:problems", "limit": 12},
        "rollouts": {
            "num_samples": 4,
            "max_new_tokens": 64,
            "prompts_per_part": 5,
            "stop_at_mismatch": False,
        },
        "warmup": {"learning_rate": 1e-4},
        "distill": {"learning_rate": 1e-4, "max_length": 128},
        "evaluate": {
            "benchmarks": [
                {"name": "test", "dataset": "bundled:problems", "split": "test", "limit": 20},
                {
                    "name": "wording",
                    "dataset": "bundled:problems",
                    "split": "dev",
                    "limit": 5,
                    "metric": "rouge_l",
                },
            ]
        },
    }
    return Recipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(small_recipe(), tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Callable[[str], list[dict[str, Any]]]:
    def read(stage: str) -> list[dict[str, Any]]:
        paths = sorted((folder / stage).glob("part-*.parquet"))
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    return read


Rows = Callable[[str], list[dict[str, Any]]]


def test_the_run_directory_is_the_contract_s(folder: Path, rows: Rows) -> None:
    assert set(rows("prompts")[0]) == {"prompt_id", "prompt_ids", "text", "reference", "answer"}
    assert set(rows("rollouts")[0]) == {
        "prompt_id", "sample_index", "completion_ids", "student_logprobs", "teacher_logprobs",
        "mismatch_index", "margin", "continuation_ids", "continuation_ref_logprobs",
        "finish_reason", "continuation_finish_reason", "scored",
    }  # fmt: skip
    assert set(rows("pairs")[0]) == {
        "prompt_id", "sample_index", "prompt_ids", "chosen_ids", "rejected_ids", "mismatch_index",
        "chosen_ref_logprob", "rejected_ref_logprob", "prompt", "chosen", "rejected",
    }  # fmt: skip
    for name in ("warmup", "distill", "control"):
        AutoModelForCausalLM.from_pretrained(folder / name)
        AutoTokenizer.from_pretrained(folder / name)
        assert (folder / name / "trainer_log.jsonl").read_text(encoding="utf-8")
    for model in ("student", "warmup", "control", "distill"):
        assert (folder / "evaluate" / model / "predictions.parquet").exists()
        for benchmark in ("test", "wording"):
            result = json.loads((folder / f"evaluate/{model}/{benchmark}.json").read_text())
            assert 0 <= result["sampled"]["mean"] <= 100
            assert math.isfinite(result["agreement"]["forward_kl"])
    assert (folder / "report" / "index.html").exists()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest["stages"]) == STAGES
    for stage in manifest["stages"].values():
        assert stage["state"] == "complete" and stage["seconds"] >= 0 and stage["fingerprint"]
    assert load_recipe(folder / "recipe.yaml") == small_recipe()


def test_every_prompt_has_its_samples_in_order(rows: Rows) -> None:
    expected = [(p["prompt_id"], i) for p in rows("prompts") for i in range(4)]
    assert [(r["prompt_id"], r["sample_index"]) for r in rows("rollouts")] == expected


@torch.no_grad()
def test_plain_forward_passes_find_the_same_numbers_and_the_same_mismatches(rows: Rows) -> None:
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(BUNDLED / name) for name in ("student", "teacher")
    )
    prompts = {prompt["prompt_id"]: prompt["prompt_ids"] for prompt in rows("prompts")}
    mismatching = 0
    for row in rows("rollouts"):
        prompt, ids = prompts[row["prompt_id"]], row["completion_ids"]
        q, p = (naive.logprobs(model, prompt, ids) for model in (student, teacher))
        torch.testing.assert_close(torch.tensor(row["student_logprobs"]), q, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(torch.tensor(row["teacher_logprobs"]), p, atol=1e-4, rtol=1e-5)
        over = [t for t, margin in enumerate((q - p).tolist()) if margin > 4.0]
        k = over[0] if over else None
        assert row["mismatch_index"] == k or abs(row["margin"] - 4.0) < 1e-3
        if k is None:
            assert row["continuation_ids"] is None
            continue
        mismatching += 1
        ref = naive.logprobs(student, [*prompt, *ids[:k]], row["continuation_ids"])
        found = torch.tensor(row["continuation_ref_logprobs"])
        torch.testing.assert_close(found, ref, atol=1e-4, rtol=1e-5)
    assert 0 < mismatching < len(rows("rollouts"))


def test_the_manifest_says_what_every_stage_ran(folder: Path, rows: Rows) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    tokens = {
        stage: {(one["model"], one["work"]): one["tokens"] for one in entry.get("cost", [])}
        for stage, entry in manifest["stages"].items()
    }
    read = sum(len(prompt["prompt_ids"]) for prompt in rows("prompts"))
    fed = sum(len(row["completion_ids"]) - 1 for row in rows("rollouts"))
    continued = [row["continuation_ids"] for row in rows("rollouts") if row["continuation_ids"]]
    after = sum(len(ids) - 1 for ids in continued)
    assert tokens["rollouts"] == {
        ("student", "sample"): read + fed, ("teacher", "score"): read + fed,
        ("teacher", "sample"): after, ("student", "score"): after,
    }  # fmt: skip
    # an epoch of the distillation runs every prompt with its reference, both models alike
    kept = {p["prompt_id"]: len(p["prompt_ids"]) for p in rows("prompts")}
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "student")
    ended = {p["prompt_id"]: len(tokenizer(p["reference"]).input_ids) + 1 for p in rows("prompts")}
    expected = sum(min(128, kept[name] + ended[name]) - 1 for name in kept)
    assert tokens["distill"] == {("student", "train"): expected, ("teacher", "score"): expected}
    assert tokens["control"] == tokens["distill"]
    assert set(tokens["warmup"]) == {
        ("student", "train"), ("student", "sample"), ("student", "score"), ("teacher", "score"),
    }  # fmt: skip
    drawn = [
        row for name in ("student", "warmup", "control", "distill")
        for row in pq.read_table(folder / f"evaluate/{name}/predictions.parquet").to_pylist()
    ]  # fmt: skip
    checked = [row for row in drawn if row["has_mismatch"] is not None]
    assert len(checked) == len(drawn) / 2
    (teacher,) = [n for (model, _), n in tokens["evaluate"].items() if model == "teacher"]
    assert tokens["evaluate"]["student", "score"] == teacher
    assert tokens["evaluate"]["student", "sample"] > teacher > sum(o["tokens"] for o in checked)
    assert {entry["device"] for entry in manifest["stages"].values()} != {""}


def test_no_completion_has_an_end_of_sequence_that_it_did_not_produce(rows: Rows) -> None:
    eos = AutoTokenizer.from_pretrained(BUNDLED / "student").eos_token_id
    for row in rows("rollouts"):
        for ids, reason in (
            (row["completion_ids"], row["finish_reason"]),
            (row["continuation_ids"], row["continuation_finish_reason"]),
        ):
            assert ids is None or (ids[-1] == eos) == (reason == "eos")
            assert ids is None or eos not in ids[:-1]


def test_pairs_are_equal_before_the_mismatch_and_differ_at_it(rows: Rows) -> None:
    rollouts = {(r["prompt_id"], r["sample_index"]): r for r in rows("rollouts")}
    assert rows("pairs")
    for pair in rows("pairs"):
        k = pair["mismatch_index"]
        rollout = rollouts[pair["prompt_id"], pair["sample_index"]]
        assert pair["chosen_ids"][:k] == pair["rejected_ids"][:k] == rollout["completion_ids"][:k]
        assert pair["chosen_ids"][k] != pair["rejected_ids"][k]
        assert pair["chosen_ids"][k:] == rollout["continuation_ids"]
        assert pair["rejected_ref_logprob"] == pytest.approx(
            sum(rollout["student_logprobs"][k:]), abs=1e-4
        )


def test_the_warm_up_starts_at_ln_2(folder: Path) -> None:
    lines = (folder / "warmup" / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_the_same_recipe_and_seed_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = run(small_recipe(), tmp_path / "again")
    for stage in ("prompts", "rollouts", "pairs"):
        for path in (folder / stage).iterdir():
            assert path.read_bytes() == (again / stage / path.name).read_bytes()


def test_another_seed_gives_other_samples(rows: Rows, tmp_path: Path) -> None:
    again = run(small_recipe(seed=1, control=False), tmp_path / "again")
    (path, *_) = sorted((again / "rollouts").iterdir())
    others = pq.read_table(path).to_pylist()
    assert [r["completion_ids"] for r in others] != [
        r["completion_ids"] for r in rows("rollouts")[: len(others)]
    ]


def test_a_run_goes_on_where_it_stopped_and_touches_nothing_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}
    del manifest["stages"]["report"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    shutil.rmtree(folder / "report")
    run(small_recipe(), folder)
    assert (folder / "report" / "index.html").exists()
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}


def test_rollouts_keep_the_parts_that_are_there(folder: Path, tmp_path: Path) -> None:
    first, *_ = sorted((folder / "rollouts").iterdir())
    target = tmp_path / "parts" / "rollouts"
    with opened(small_recipe(), target.parent) as session:
        run_stage(session, "prompts")
        target.mkdir()
        (target / first.name).write_bytes(first.read_bytes())
        stamp = (target / first.name).stat().st_mtime_ns
        run_stage(session, "rollouts")
    assert (target / first.name).stat().st_mtime_ns == stamp
    for path in (folder / "rollouts").iterdir():
        assert path.read_bytes() == (target / path.name).read_bytes()


def test_a_student_equal_to_its_teacher_gives_no_pairs_and_still_distils(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="warmup_distill")
    folder = run(small_recipe(student="bundled:teacher"), tmp_path / "equal")
    assert "no pairs: in none of 48 completions" in caplog.text
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["stages"]["pairs"]["counts"]["pairs"] == 0
    assert manifest["stages"]["distill"]["counts"]["steps"] > 0
    result = json.loads((folder / "evaluate/student/test.json").read_text(encoding="utf-8"))
    assert result["agreement"]["forward_kl"] == pytest.approx(0, abs=1e-6)
    assert result["agreement"]["mismatch_share"] == 0


def test_a_student_can_be_cut_and_healed(tmp_path: Path) -> None:
    recipe = small_recipe(
        student="bundled:teacher",
        control=False,
        cut={"keep_layers": [0, 3], "learning_rate": 1e-3, "max_length": 128},
    )
    folder = run(recipe, tmp_path / "cut")
    model = AutoModelForCausalLM.from_pretrained(folder / "cut")
    assert model.config.num_hidden_layers == 2
    result = json.loads((folder / "evaluate/student/test.json").read_text(encoding="utf-8"))
    assert result["agreement"]["forward_kl"] > 0.01


def test_lora_trains_adapters_and_leaves_an_ordinary_model(tmp_path: Path) -> None:
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    recipe = small_recipe(
        control=False, warmup={"learning_rate": 1e-2, "lora": lora, "watch": {"prompts": 0}}
    )
    folder = run(recipe, tmp_path / "lora")
    before = AutoModelForCausalLM.from_pretrained(BUNDLED / "student").state_dict()
    after = AutoModelForCausalLM.from_pretrained(folder / "warmup").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)


def test_a_batch_that_workers_cannot_share_is_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    recipe = small_recipe(cluster={"num_workers": 3})
    with pytest.raises(RecipeError, match="cannot be shared evenly among 3 training processes"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
