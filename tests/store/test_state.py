"""Nothing lost: what is interrupted goes on to the same bytes, and what changed is done again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_run import small_recipe
from transformers import TrainerCallback

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.errors import NumbersError, RunError, WarmupDistillError
from warmup_distill.models.holding import ModelRef
from warmup_distill.pipeline import opened, run, run_stage
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe
from warmup_distill.records import Pair
from warmup_distill.store.artifacts import read_records
from warmup_distill.store.locking import locked
from warmup_distill.store.manifest import Manifest
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.training.warmup import WarmupTrainer

UP_TO_PAIRS = ("prompts", "rollouts", "pairs")


def recipe(**changes: Any) -> Recipe:
    warmup = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "num_train_epochs": 2,
              "save_steps": 3}  # fmt: skip
    return small_recipe(**({"warmup": warmup} | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    return run(recipe(), tmp_path_factory.mktemp("state") / "whole")


def copied(whole: Path, folder: Path, *stages: str) -> Path:
    """A run with these stages complete and no others."""
    folder.mkdir()
    for name in ("recipe.yaml", *stages):
        source = whole / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    manifest["stages"] = {stage: manifest["stages"][stage] for stage in stages}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


class Killed(BaseException):
    """As sudden as kill -9, but in this process."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise Killed

    original = GloballyNormalizedTrainer.train

    def train(self: Any, *arguments: Any, **named: Any) -> Any:
        self.add_callback(Kill())
        return original(self, *arguments, **named)

    monkeypatch.setattr(GloballyNormalizedTrainer, "train", train)


def warm_up(folder: Path, **changes: Any) -> None:
    with opened(recipe(**changes), folder) as session:
        run_stage(session, "warmup")


def interrupted(whole: Path, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A warm-up killed after a step."""
    copied(whole, folder, *UP_TO_PAIRS)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(step, patch)
        warm_up(folder)
    return folder


def test_a_kill_after_the_last_step_trains_no_step_more(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path / "killed", *UP_TO_PAIRS)

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("warmup_distill.training.fit.save_model", killed)
        warm_up(folder)

    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(GloballyNormalizedTrainer, "compute_loss", never)
        warm_up(folder)
    assert_same_weights(folder / "warmup", whole / "warmup")
    assert cost(folder, "warmup") == cost(whole, "warmup")


def cost(folder: Path, stage: str) -> list[dict[str, Any]]:
    """What the manifest says that a stage cost."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = manifest["stages"][stage]["cost"]
    return found


def assert_same_weights(one: Path, other: Path) -> None:
    weights, expected = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.parametrize("step", [1, 4, 6, 13, 20])
def test_a_killed_warm_up_goes_on_to_the_same_weights_and_the_same_log(
    step: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(whole, tmp_path / "killed", step, monkeypatch)
    warm_up(folder)
    assert_same_weights(folder / "warmup", whole / "warmup")
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "step"} for line in text.splitlines()]
        for text in (
            (f / "warmup/trainer_log.jsonl").read_text(encoding="utf-8") for f in (folder, whole)
        )
    ]
    assert logs[0] == logs[1]
    assert cost(folder, "warmup") == cost(whole, "warmup")
    assert not list((folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "objective",
    [
        {"objective": "taid", "options": {"rate": 0.1}},
        {"completions": {"adaptive": {"start": 0.5, "validation_rows": 2, "validation_steps": 2,
                                      "capacity": 4, "tolerance": 0.0}}},
    ],
)  # fmt: skip
def test_what_our_trainers_keep_besides_is_resumed_too(
    objective: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill = {"learning_rate": 1e-3, "max_length": 128, "per_device_train_batch_size": 2,
               "num_train_epochs": 2, "save_steps": 3} | objective  # fmt: skip
    changed = recipe(distill=distill)
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        with opened(changed, folder) as session:
            run_stage(session, "prompts")
            if folder == folders[1]:
                with monkeypatch.context() as patch, pytest.raises(Killed):
                    kill_at(7, patch)
                    control(session)
            control(session)
    assert_same_weights(folders[1] / "control", folders[0] / "control")
    assert cost(folders[1], "control") == cost(folders[0], "control")


def control(session: Any) -> None:
    from warmup_distill.stages.controls import distill_control

    Manifest(session.folder).begin("control", session.fingerprints["control"])
    distill_control(session)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: (c / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda c: (c / "scheduler.pt").unlink(), "scheduler.pt is missing"),
        (lambda c: (c / "rng_state.pth").unlink(), "rng_state.pth is missing"),
        (lambda c: (c / "model.safetensors").write_bytes(b"cut"), "model.safetensors has changed"),
        (lambda c: (c / "trainer_state.json").write_text("{"), "trainer_state.json has changed"),
        (lambda c: (c / "seal.json").unlink(), "it was never sealed"),
        (lambda c: (c / "seal.json").write_text("[1"), "it was never sealed"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: Any,
    message: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="warmup_distill")
    folder = interrupted(whole, tmp_path / "killed", 8, monkeypatch)
    damage(folder / "checkpoints" / "warmup" / "checkpoint-6")
    warm_up(folder)
    assert f"checkpoint-6 is not whole ({message})" in caplog.text
    assert "going on from" in caplog.text and "checkpoint-3" in caplog.text
    assert_same_weights(folder / "warmup", whole / "warmup")


def test_a_checkpoint_of_another_training_is_refused_with_what_differs(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(whole, tmp_path / "killed", 4, monkeypatch)
    seal = folder / "checkpoints/warmup/checkpoint-3/seal.json"
    known = json.loads(seal.read_text(encoding="utf-8"))
    known["about"] |= {"learning_rate": 0.5, "rows": "others"}
    seal.write_text(json.dumps(known), encoding="utf-8")
    with pytest.raises(RunError, match=r"(?s)learning_rate: 0.5 there, 0.001 here.*rows: 'others'"):
        warm_up(folder)


def test_a_checkpoint_holds_no_pickled_arguments(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(whole, tmp_path / "killed", 4, monkeypatch)
    assert not list(folder.rglob("training_args.bin"))


def stamps(folder: Path, stage: str) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in (folder / stage).rglob("*") if p.is_file()}


def test_another_threshold_redoes_the_check_and_keeps_the_samples(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = small_recipe(
        warmup=recipe().warmup.model_dump(),
        rollouts=recipe().rollouts.model_dump() | {"margin_threshold": 2.0},
    )
    folder = copied(whole, tmp_path / "redone", *UP_TO_PAIRS)
    with pytest.raises(RunError, match=r"(?s)4.0 there, 2.0 here.*--redo, .*rollouts, pairs"):
        run(changed, folder)
    prompts = stamps(folder, "prompts")
    fresh = run(changed, tmp_path / "fresh")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("sampled again")

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "sample", never)
        with opened(changed, folder, redo=True) as session:
            for stage in ("rollouts", "pairs"):
                run_stage(session, stage)
    assert stamps(folder, "prompts") == prompts
    for path in (fresh / "pairs").iterdir():
        pairs = read_records(path, Pair), read_records(folder / "pairs" / path.name, Pair)
        for one, other in zip(*pairs, strict=True):
            assert (one.chosen_ids, one.rejected_ids) == (other.chosen_ids, other.rejected_ids)
            # scored from another cache, so the last digits may differ
            assert one.chosen_ref_logprob == pytest.approx(other.chosen_ref_logprob, abs=1e-3)


def test_another_title_redoes_the_report_alone(whole: Path, tmp_path: Path) -> None:
    stages = ("prompts", "rollouts", "pairs", "warmup", "distill", "control", "evaluate", "report")
    folder = copied(whole, tmp_path / "titled", *stages)
    before = {stage: stamps(folder, stage) for stage in stages}
    run(recipe(report={"title": "Another"}), folder, redo=True)
    after = {stage: stamps(folder, stage) for stage in stages}
    assert [stage for stage in stages if before[stage] != after[stage]] == ["report"]
    assert "Another" in (folder / "report/index.html").read_text(encoding="utf-8")


def test_memory_settings_may_change_without_a_word(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "smaller", *UP_TO_PAIRS)
    rollouts = recipe().rollouts.model_dump() | {"batch_tokens": 999}
    with opened(recipe(rollouts=rollouts), folder) as session:
        run_stage(session, "pairs")


def test_a_data_file_that_changed_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    row = {"prompt": "Ava has 3 cups.", "reference": "#### 3"}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    changed = recipe(prompts={"file": str(file), "reference_column": "reference"})
    with opened(changed, tmp_path / "run") as session:
        run_stage(session, "prompts")
    file.write_text(json.dumps(row | {"reference": "#### 4"}) + "\n", encoding="utf-8")
    with pytest.raises(
        RunError, match=r"(?s)content of a data file .*rows.jsonl.*--redo, .*prompts"
    ):
        run(changed, tmp_path / "run")


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder):
        (folder / "manifest.json").touch()
        code = (
            "from pathlib import Path; from warmup_distill.store.locking import locked\n"
            f"with locked(Path({str(folder)!r})): pass"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"is in use by process {os.getpid()} on" in done.stderr
    with locked(folder):
        pass


def test_a_redo_that_cannot_run_removes_nothing(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "mistyped", *UP_TO_PAIRS)
    before = {stage: stamps(folder, stage) for stage in UP_TO_PAIRS}
    with pytest.raises(WarmupDistillError, match="nothing-here"):
        run(recipe(teacher="./nothing-here"), folder, redo=True)
    assert before == {stage: stamps(folder, stage) for stage in UP_TO_PAIRS}


def test_a_single_stage_is_not_redone_before_what_it_follows(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "single", *UP_TO_PAIRS, "warmup")
    changed = recipe(pairs={"max_per_prompt": 1})
    before = (folder / "manifest.json").read_bytes()
    refused = pytest.raises(RunError, match="warmup follows pairs, which depends on what has")
    with refused, opened(changed, folder, redo=True, stage="warmup"):
        pass
    assert (folder / "manifest.json").read_bytes() == before


def test_half_done_work_of_other_settings_is_not_taken_up(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "half", *UP_TO_PAIRS)
    shutil.copytree(whole / "warmup", folder / "warmup")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["stages"]["warmup"] = {"state": "open", "fingerprint": "of other settings"}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RunError, match="--redo, which does again: warmup"):
        run(recipe(), folder)
    run(recipe(), folder, redo=True)
    for name in ("warmup/model.safetensors", "warmup/config.json"):
        assert (folder / name).stat().st_mtime_ns != (whole / name).stat().st_mtime_ns
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_what_a_kill_left_half_written_is_swept_away(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "left", *UP_TO_PAIRS)
    new = tmp_path / "new"
    code = (
        "import os, signal; from pathlib import Path\n"
        "from warmup_distill.store.writing import replacing, whole_folder\n"
        "with whole_folder(Path(PLACE) / 'warmup') as one, replacing(Path(PLACE) / NAME) as two:\n"
        "    (one / 'config.json').touch(); two.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for place, name in ((folder, "pairs/part-00000.parquet"), (new, "manifest.json")):
        given = f"PLACE = {str(place)!r}; NAME = {name!r}\n"
        done = subprocess.run([sys.executable, "-c", given + code])
        assert done.returncode == -signal.SIGKILL
        assert len(list(place.rglob(".warmup-distill-*.tmp"))) == 2
        with opened(recipe(), place):
            assert (place / "recipe.yaml").exists()
        assert not list(place.rglob(".warmup-distill-*"))


def test_a_refused_folder_is_left_without_a_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="holds no run"), opened(recipe(), tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_open_part_and_says_how_to_go_on(
    number: int, code: int, whole: Path, tmp_path: Path
) -> None:
    folder = copied(whole, tmp_path / "asked", *UP_TO_PAIRS)
    slow = recipe(warmup=recipe().warmup.model_dump() | {"num_train_epochs": 400, "save_steps": 9})
    (folder / "recipe.yaml").write_text(dump_recipe(slow), encoding="utf-8")
    command = [sys.executable, "-m", "warmup_distill", "run", str(folder / "recipe.yaml"), "--redo"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoints = folder / "checkpoints" / "warmup"
    while not list(checkpoints.glob("*/seal.json")):
        assert process.poll() is None
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code
    assert f"stopped by {signal.Signals(number).name}" in error and "same command" in error
    steps = [int(path.parent.name.split("-")[1]) for path in checkpoints.glob("*/seal.json")]
    assert any(step % 9 for step in steps)  # the step in which the signal came is saved


def spoil_losses(patch: pytest.MonkeyPatch, spoil: Callable[[Any, torch.Tensor], Any]) -> None:
    """Do something to every loss of the warm-up, given its trainer."""
    original = WarmupTrainer.summed_loss
    patch.setattr(
        WarmupTrainer, "summed_loss", lambda self, inputs: spoil(self, original(self, inputs))
    )


def test_a_loss_that_is_no_number_stops_and_names_the_rows(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path / "nan", *UP_TO_PAIRS)

    def spoil(trainer: WarmupTrainer, loss: torch.Tensor) -> torch.Tensor:
        return loss * float("nan") if trainer.state.global_step == 4 else loss

    spoil_losses(monkeypatch, spoil)
    with pytest.raises(NumbersError, match=r"loss of step 5 is nan, in the rows \[\d+, "):
        warm_up(folder)
    assert (folder / "checkpoints/warmup/checkpoint-3/seal.json").exists()


def test_a_gradient_that_is_no_number_stops_before_it_spoils_the_weights(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(whole, tmp_path / "inf", *UP_TO_PAIRS)

    def spoil(trainer: WarmupTrainer, loss: torch.Tensor) -> torch.Tensor:
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    spoil_losses(monkeypatch, spoil)
    with pytest.raises(NumbersError, match="the gradient of .* in step 1 is not finite"):
        warm_up(folder)


def test_broken_weights_stop_the_rollouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ModelRef.load

    def broken(self: ModelRef) -> Any:
        model = original(self)
        if self.name.endswith("student"):
            with torch.no_grad():
                model.get_output_embeddings().weight[3] = float("nan")
        return model

    monkeypatch.setattr(ModelRef, "load", broken)
    with opened(recipe(), tmp_path / "run") as session:
        run_stage(session, "prompts")
        with pytest.raises(NumbersError, match="not finite"):
            run_stage(session, "rollouts")


def test_a_full_disk_leaves_what_was_before_and_says_so(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from warmup_distill.cli.main import main

    folder = copied(whole, tmp_path / "full", "prompts", "rollouts")
    before = stamps(folder, "rollouts")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    argv = ["warmup-distill", "pairs", str(folder / "recipe.yaml")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not list((folder / "pairs").glob("*")) and stamps(folder, "rollouts") == before


def watched_warm_up(folder: Path, whole: Path, **warmup: Any) -> tuple[dict[str, Any], list[Any]]:
    """Counts and examinations of a warm-up with other settings."""
    watch = {"prompts": 8, "steps": 4, "patience": warmup.pop("patience", 2)}
    values = recipe().warmup.model_dump() | {"watch": watch} | warmup
    changed = recipe(
        prompts={"dataset": "bundled:problems", "limit": 20},
        rollouts=recipe().rollouts.model_dump() | {"limit": 12},
        warmup=values,
    )
    with opened(changed, folder) as session:
        for stage in (*UP_TO_PAIRS, "warmup"):
            run_stage(session, stage)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    history = json.loads((folder / "warmup/watch.json").read_text(encoding="utf-8"))
    return manifest["stages"]["warmup"]["counts"], history


def test_a_warm_up_that_destroys_the_student_is_stopped_and_its_best_point_kept(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts, history = watched_warm_up(
        tmp_path / "run", whole, learning_rate=0.05, beta=0.01, num_train_epochs=20
    )
    assert counts["stopped"] == 1 and counts["steps"] < 100
    assert "further from its teacher" in caplog.text
    best = min(history, key=lambda one: one["watch_kl"])
    assert history[-1]["watch_kl"] > 1.1 * best["watch_kl"]
    assert counts["best_step"] == best["step"]
    if best["step"] == 0:  # then the student is what it was
        from warmup_distill.models.loading import BUNDLED

        assert_same_weights(tmp_path / "run" / "warmup", BUNDLED / "student")


def test_a_warm_up_is_examined_to_its_end(whole: Path, tmp_path: Path) -> None:
    counts, history = watched_warm_up(tmp_path / "run", whole, learning_rate=1e-4, patience=99)
    assert counts["stopped"] == 0
    assert [one["step"] for one in history] == [*range(0, counts["steps"], 4), counts["steps"]]
