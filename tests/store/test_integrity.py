"""What a finished run holds is known by its content: a change is refused and named, or mended."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from test_run import small_recipe

from warmup_distill.errors import RunError
from warmup_distill.exporting import export_pairs
from warmup_distill.pipeline import opened, run, run_stage
from warmup_distill.planning.page import plan
from warmup_distill.records import Pair, Prediction
from warmup_distill.store.artifacts import read_records, write_records
from warmup_distill.suites.evaluation import ask, evaluate_model, evaluate_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(small_recipe(), tmp_path_factory.mktemp("integrity") / "finished")


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def flip(path: Path) -> None:
    """Another byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_row(path: Path) -> None:
    write_records(path, Pair, read_records(path, Pair)[:-1])


def flip_weight(path: Path) -> None:
    weights = load_file(path)
    name = next(iter(weights))
    weights[name].flatten()[0] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})


def garbage(path: Path) -> None:
    path.write_text('["none"]', encoding="utf-8")


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        ("prompts/part-00000.parquet", Path.unlink, "missing"),
        ("rollouts/part-00001.parquet", Path.unlink, "missing"),
        ("rollouts/part-00002.parquet", flip, "changed"),
        ("pairs/part-00000.parquet", Path.unlink, "missing"),
        ("pairs/part-00000.parquet", drop_row, "changed"),
        ("pairs/part-00000.parquet", cut, "changed"),
        ("warmup/model.safetensors", flip_weight, "changed"),
        ("warmup/model.safetensors", cut, "changed"),
        ("warmup/tokenizer.json", flip, "changed"),
        ("warmup/trainer_log.jsonl", garbage, "changed"),
        ("warmup/watch.json", Path.unlink, "missing"),
        ("control/generation_config.json", garbage, "changed"),
        ("distill/model.safetensors", flip, "changed"),
        ("evaluate/student/test.json", garbage, "changed"),
        ("evaluate/distill/predictions.parquet", cut, "changed"),
        ("report/index.html", Path.unlink, "missing"),
    ],
)
def test_a_finished_run_that_was_changed_is_refused_and_the_file_named(
    name: str, damage: Callable[[Path], None], word: str, folder: Path
) -> None:
    damage(folder / name)
    before = stamps(folder)
    with pytest.raises(RunError) as error:
        run(small_recipe(), folder)
    assert f"{folder / name} " in str(error.value) and word in str(error.value)
    assert "Put back a copy" in str(error.value) and "--redo" in str(error.value)
    assert stamps(folder) == before
    _, problems = plan(small_recipe(), folder, measured=False)
    assert len(problems) == 1 and f"{folder / name} " in problems[0]


def test_a_copy_put_back_is_taken(finished: Path, folder: Path) -> None:
    name = "distill/model.safetensors"
    (folder / name).unlink()
    shutil.copy(finished / name, folder / name)
    before = stamps(folder)
    assert run(small_recipe(), folder) == folder
    changed = {path for path, stamp in stamps(folder).items() if before.get(path) != stamp}
    assert not changed


def test_redo_makes_what_was_lost_again_to_the_same_bytes(finished: Path, folder: Path) -> None:
    (folder / "rollouts/part-00001.parquet").unlink()
    flip(folder / "rollouts/part-00002.parquet")
    kept = (folder / "rollouts/part-00000.parquet").stat().st_mtime_ns
    run(small_recipe(), folder, redo=True)
    assert (folder / "rollouts/part-00000.parquet").stat().st_mtime_ns == kept
    for stage in ("prompts", "rollouts", "pairs", "warmup", "distill", "evaluate"):
        for path in (finished / stage).rglob("*.*"):
            assert (folder / path.relative_to(finished)).read_bytes() == path.read_bytes(), path
    run(small_recipe(), folder)


def test_redo_of_a_lost_report_makes_the_report_alone(folder: Path) -> None:
    (folder / "report/index.html").unlink()
    before = stamps(folder)
    run(small_recipe(), folder, redo=True)
    now = stamps(folder)
    changed = {path.relative_to(folder).as_posix() for path in now if now[path] != before.get(path)}
    assert {"manifest.json", "report/index.html", "report/figures/replaced.pdf"} <= changed
    assert {name for name in changed if not name.startswith("report/")} == {"manifest.json"}


def test_a_stage_alone_looks_at_what_it_reads_and_at_no_more(folder: Path) -> None:
    (folder / "evaluate/student/test.json").unlink()
    with opened(small_recipe(), folder, stage="pairs") as session:
        run_stage(session, "pairs")
    (folder / "rollouts/part-00000.parquet").unlink()
    refused = pytest.raises(RunError, match="part-00000.parquet is missing")
    with refused, opened(small_recipe(), folder, stage="pairs"):
        pass


def test_a_part_that_is_none_of_the_run_s_is_not_read(folder: Path) -> None:
    shutil.copy(folder / "pairs/part-00000.parquet", folder / "pairs/part-00001.parquet")
    for redo in (False, True):
        with pytest.raises(RunError, match="part-00001.parquet was not made by this run"):
            run(small_recipe(), folder, redo=redo)
    assert (folder / "pairs/part-00001.parquet").exists()


def test_an_export_of_changed_pairs_is_refused(folder: Path) -> None:
    drop_row(folder / "pairs/part-00000.parquet")
    with pytest.raises(RunError, match="part-00000.parquet has changed"):
        export_pairs(folder, "trl")
    assert not (folder / "export").exists()


def test_suites_are_not_asked_of_a_changed_model(folder: Path) -> None:
    question = ask("problems", "clean", 2, None, None, 16384, "float32")
    flip_weight(folder / "control/model.safetensors")
    with pytest.raises(RunError, match="control/model.safetensors has changed"):
        evaluate_run(folder, question)
    assert not (folder / "suites").exists()


@pytest.mark.parametrize("damaged", ["problems-clean.json", "problems-clean.parquet"])
def test_a_changed_result_of_a_suite_is_not_shown_again(damaged: str, tmp_path: Path) -> None:
    question = ask("problems", "clean", 2, None, None, 16384, "float32")
    (path,) = evaluate_model("bundled:student", tmp_path, question)
    if damaged.endswith(".json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"completions": 2', '"completions": 3'), encoding="utf-8")
    else:
        flip(tmp_path / damaged)
    with pytest.raises(RunError, match="not as they were written"):
        evaluate_model("bundled:student", tmp_path, question)
    for content in ("", "[]", '{"asked": 3}', "[" * 100_000):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match="problems-clean.json"):
            evaluate_model("bundled:student", tmp_path, question)


def test_predictions_of_another_model_are_not_taken_for_those_of_an_open_evaluation(
    finished: Path, folder: Path
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entry = manifest["stages"]["evaluate"]
    manifest["stages"]["evaluate"] = {"state": "open", "fingerprint": entry["fingerprint"]}
    del manifest["stages"]["report"]
    shutil.rmtree(folder / "report")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    student, control = (folder / "evaluate" / name for name in ("student", "control"))
    shutil.copytree(student, control, dirs_exist_ok=True)
    garbage(folder / "evaluate/distill/predictions.parquet")
    kept = (student / "predictions.parquet").stat().st_mtime_ns
    run(small_recipe(), folder)
    assert (student / "predictions.parquet").stat().st_mtime_ns == kept
    for model in ("control", "distill"):
        name = f"evaluate/{model}/predictions.parquet"
        expected = read_records(finished / name, Prediction)
        assert read_records(folder / name, Prediction) == expected


def former(folder: Path) -> None:
    """The manifest as versions wrote it that knew no hashes, and made fingerprints of samples."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["format"]
    for entry in manifest["stages"].values():
        del entry["files"]
        entry["fingerprint"] = "0123456789abcdef"
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_a_run_of_an_earlier_version_still_opens_and_is_looked_after_from_then_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    former(folder)
    before = stamps(folder / "distill")
    for times in (1, 1):
        run(small_recipe(), folder)
        assert caplog.text.count("was made by an earlier version") == times
    assert stamps(folder / "distill") == before
    flip(folder / "distill/model.safetensors")
    with pytest.raises(RunError, match="distill/model.safetensors has changed"):
        run(small_recipe(), folder)


def test_a_run_of_an_earlier_version_follows_a_changed_recipe(folder: Path) -> None:
    former(folder)
    titled = small_recipe(report={"title": "Another"})
    with pytest.raises(RunError, match="--redo, which does again: report"):
        run(titled, folder)
    before = stamps(folder / "evaluate")
    run(titled, folder, redo=True)
    assert stamps(folder / "evaluate") == before


def test_a_run_directory_that_goes_away_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with opened(small_recipe(), folder) as session:
        run_stage(session, "prompts")

        def vanish(session: Any) -> dict[str, Any]:
            shutil.rmtree(folder)
            return {}

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(stages(), "rollouts", vanish)
            with pytest.raises(RunError, match="was removed or moved while a stage was at work"):
                run_stage(session, "rollouts")
    assert not folder.exists()


def stages() -> dict[str, Any]:
    from warmup_distill.pipeline import STAGES

    return STAGES
