"""What is not ours is not removed, not written over, and not written through."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_run import small_recipe

from warmup_distill.engines.drawing import QUESTION, forget
from warmup_distill.errors import RunError, WarmupDistillError
from warmup_distill.exporting import export_pairs
from warmup_distill.pipeline import opened, run, run_stage
from warmup_distill.recipe.reading import dump_recipe
from warmup_distill.records import Completion
from warmup_distill.store.artifacts import write_records, write_text
from warmup_distill.store.locking import in_turn, locked
from warmup_distill.store.writing import whole_folder
from warmup_distill.suites.evaluation import ask, evaluate_run

FOREIGN = (
    ".git.backup/config",
    ".obsidian.d/app.json",
    ".notes.txt.tmp",
    ".warmup-distill-notes.tmp",
    ".warmup-distill/keep",
    "notes.md",
    "rollouts.bak/part-00000.parquet",
    "rollouts/notes.txt",
    "rollouts/part-00000 (copy).parquet",
    "rollouts/part-1.parquet",
    "pairs/.part-00000.parquet.123.tmp",
    "pairs/old/part-00000.parquet",
    "warmup/README.md",
    "warmup/.git/HEAD",
    "distill/model.gguf",
    "evaluate/student/notes.txt",
    "evaluate/mine/test.txt",
    "evaluate/student/drawn/keep.txt",
    "report/style.css",
    "report/figures/mine.svg",
    "report/figures/replaced.png",
    "checkpoints/notes.txt",
    "checkpoints/warmup/best.txt",
    "checkpoints/warmup/checkpoint-9/notes.txt",
    "checkpoints/warmup/best-mine.safetensors",
    "completions/distill/notes.txt",
    "signals/distill/part-00000/notes.txt",
    "signals/mine/hidden.npy",
    "suites/notes.txt",
    "export/trl/notes.txt",
)
"""Files of a user's, in and beside our own folders."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(small_recipe(), tmp_path_factory.mktemp("ownership") / "finished")


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def plant(folder: Path) -> None:
    for name in FOREIGN:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the user's {name}", encoding="utf-8")


def assert_untouched(folder: Path) -> None:
    for name in FOREIGN:
        assert (folder / name).read_text(encoding="utf-8") == f"the user's {name}"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_finished_run_leaves_a_user_s_files_alone(folder: Path) -> None:
    plant(folder)
    before = files(folder)
    run(small_recipe(), folder)
    assert files(folder) == before


def test_all_done_again_leaves_a_user_s_files_alone(finished: Path, folder: Path) -> None:
    plant(folder)
    changed = small_recipe(
        prompts={"dataset": "bundled:problems", "limit": 10},
        warmup={"learning_rate": 1e-4, "save_steps": 1, "watch": {"prompts": 1, "steps": 2}},
        distill={"learning_rate": 1e-4, "max_length": 128, "save_steps": 1,
                 "teacher_signal": "hidden", "completions": {"source": "teacher"}},
    )  # fmt: skip
    run(changed, folder, redo=True)
    assert_untouched(folder)
    names = {name for name in files(folder) if not name.startswith(("completions", "signals"))}
    assert names - set(FOREIGN) == set(files(finished)) - {"rollouts/part-00002.parquet"}


LINKED = (
    "manifest.json",
    "recipe.yaml",
    ".lock",
    ".lock-holder.json",
    "prompts",
    "rollouts",
    "warmup",
    "evaluate",
    "evaluate/student",
    "checkpoints",
    "checkpoints/warmup",
    "completions",
    "signals",
)


def to_a_link(path: Path, elsewhere: Path) -> None:
    """Move what is at a path elsewhere, and leave a link to it."""
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        shutil.move(path, elsewhere)
    elif path.suffix or path.name == ".lock":
        elsewhere.write_text("the user's", encoding="utf-8")
    else:
        elsewhere.mkdir()
        (elsewhere / "file").write_text("the user's", encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("name", LINKED)
def test_a_link_in_the_place_of_what_is_ours_is_refused(
    name: str, folder: Path, tmp_path: Path
) -> None:
    (folder / ".lock").unlink()
    to_a_link(folder / name, tmp_path / "elsewhere" / "there")
    before = files(tmp_path / "elsewhere")
    other = small_recipe(rollouts=small_recipe().rollouts.model_dump() | {"num_samples": 1})
    for recipe, redo in ((small_recipe(), False), (other, True)):
        with pytest.raises(RunError, match="is a symbolic link"):
            run(recipe, folder, redo=redo)
    assert files(tmp_path / "elsewhere") == before and (folder / name).is_symlink()


@pytest.mark.parametrize(
    "name", ["report/index.html", "evaluate/student/test.json", "warmup/model.safetensors"]
)
def test_a_file_behind_a_link_is_read_but_not_written_to(
    name: str, folder: Path, tmp_path: Path
) -> None:
    to_a_link(folder / name, tmp_path / "elsewhere" / "there")
    before = files(tmp_path / "elsewhere")
    run(small_recipe(), folder)
    ours = files(folder)
    with pytest.raises(RunError, match="is a symbolic link"):
        run(small_recipe(pairs={"max_per_prompt": 1}), folder, redo=True)
    assert files(tmp_path / "elsewhere") == before and (folder / name).is_symlink()
    assert files(folder) == ours  # and nothing was begun


@pytest.mark.parametrize("name", ["export", "export/trl", "export/trl/pairs.jsonl"])
def test_an_export_is_not_written_through_a_link(name: str, folder: Path, tmp_path: Path) -> None:
    to_a_link(folder / name, tmp_path / "elsewhere" / "there.jsonl")
    before = files(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a symbolic link"):
        export_pairs(folder, "trl")
    assert files(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("name", ["suites", "suites/teacher", "suites/teacher/problems-clean.json"])
def test_results_are_not_written_through_a_link(name: str, folder: Path, tmp_path: Path) -> None:
    to_a_link(folder / name, tmp_path / "elsewhere" / "there")
    before = files(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a symbolic link"):
        evaluate_run(folder, ask("problems", "clean", 2, None, None, 16384, "float32"))
    assert files(tmp_path / "elsewhere") == before


def test_a_user_s_folder_with_a_recipe_is_not_taken_for_a_run(tmp_path: Path) -> None:
    names = ("warmup/config.json", "pairs/part-00000.parquet", "report/index.html",
             "rollouts/part-00000.parquet", "evaluate/student/test.json")  # fmt: skip
    for name in names:
        folder = tmp_path / name.split("/")[0]
        for one in (name, f"{folder.name}/mine.tex"):
            write_text(folder / one, "the user's")
        write_text(folder / "recipe.yaml", dump_recipe(small_recipe()))
        before = files(folder)
        for redo in (False, True):
            with pytest.raises(RunError, match="in the way"):
                run(small_recipe(), folder, redo=redo)
            assert files(folder) == before


@pytest.mark.parametrize("name", ["manifest.json", ".lock-holder.json", ".lock", "thesis.tex"])
def test_a_file_of_another_program_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"short_name": "web"}', encoding="utf-8")
    (tmp_path / "other.txt").touch()
    before = files(tmp_path)
    with pytest.raises(RunError):
        run(small_recipe(), tmp_path)
    assert files(tmp_path) == before
    (tmp_path / "other.txt").unlink()
    if name == "manifest.json":
        with pytest.raises(RunError, match="no manifest of this program"):
            run(small_recipe(), tmp_path)
        assert (tmp_path / name).read_bytes() == before[name]


@pytest.mark.parametrize("place", ["../outside", "/etc/hostname", "rollouts/../../outside", "x/y"])
def test_a_manifest_can_name_no_file_outside_its_stage(
    place: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").touch()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["stages"]["rollouts"]["files"][place] = {"bytes": 0, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for redo in (False, True):
        with pytest.raises(RunError, match="no manifest of this program"):
            run(small_recipe(pairs={"max_per_prompt": 1}), folder, redo=redo)
    assert (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", ["folder", "link", "dangling link"])
def test_a_manifest_that_is_no_file_is_refused(kind: str, folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").unlink()
    if kind == "folder":
        (folder / "manifest.json").mkdir()
    else:
        (folder / "manifest.json").symlink_to(tmp_path / "there.json")
    if kind == "link":
        (tmp_path / "there.json").write_text("{}", encoding="utf-8")
    before = files(tmp_path)
    with pytest.raises(RunError, match="manifest.json"):
        run(small_recipe(), folder, redo=True)
    assert files(tmp_path) == before


def test_without_its_manifest_a_run_is_left_alone_but_for_rollouts(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    before = files(folder)
    with pytest.raises(RunError, match="part-00000.parquet is in the way: `prompts` would write"):
        run(small_recipe(), folder)
    assert files(folder) == before
    for name in ("prompts", "pairs", "warmup", "distill", "control", "evaluate", "report"):
        shutil.rmtree(folder / name)
    stamp = (folder / "rollouts/part-00000.parquet").stat().st_mtime_ns
    with opened(small_recipe(), folder) as session:
        for stage in ("prompts", "rollouts"):
            run_stage(session, stage)
    assert (folder / "rollouts/part-00000.parquet").stat().st_mtime_ns == stamp


def test_a_file_with_the_name_of_a_part_is_not_written_over(folder: Path) -> None:
    shutil.rmtree(folder)
    with opened(small_recipe(), folder) as session:
        run_stage(session, "prompts")
        write_text(folder / "rollouts/part-00000.parquet", "the user's")
        with pytest.raises(RunError, match="no part of any rollouts"):
            run_stage(session, "rollouts")
    assert (folder / "rollouts/part-00000.parquet").read_text(encoding="utf-8") == "the user's"


def test_a_process_that_may_not_have_a_folder_leaves_its_lock_and_holder(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from warmup_distill.store.locking import locked\n"
        f"with locked(Path({str(tmp_path)!r})): pass"
    )
    with locked(tmp_path):
        for _ in range(2):  # the first of them once removed the lock, and the second got in
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert f"is in use by process {os.getpid()} on" in done.stderr
        assert (tmp_path / ".lock").exists() and (tmp_path / ".lock-holder.json").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["[1]", '{"process": "\\u001b]0;x", "host": 3}', "{", ""])
def test_a_holder_that_is_none_is_another_process(content: str, tmp_path: Path) -> None:
    with in_turn(tmp_path, "testing"):
        (tmp_path / ".lock-holder.json").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match="is in use by another process"), locked(tmp_path):
            pass


def test_only_what_was_drawn_is_forgotten(tmp_path: Path) -> None:
    drawn, mine = tmp_path / "part-00000.parquet", tmp_path / "part-00001.parquet"
    write_records(drawn, Completion, [], {QUESTION: "a"})
    write_records(mine, Completion, [], {"of": "the user's"})
    (tmp_path / "part-00002.parquet").write_text("cut", encoding="utf-8")
    forget([tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "part-00002.parquet"]


def test_a_folder_that_holds_something_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_text(folder / "notes.md", "the user's")
    write_text(folder / "config.json", "old")
    with whole_folder(folder) as temporary:
        write_text(temporary / "config.json", "new")
    assert files(folder) == {"notes.md": b"the user's", "config.json": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["report", "warmup", "signals"])
def test_a_file_in_the_place_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    with opened(small_recipe(), tmp_path / "run"):
        pass
    (tmp_path / "run" / name).write_text("the user's", encoding="utf-8")
    with pytest.raises(RunError, match=f"expected a folder at .*{name}"):
        run(small_recipe(), tmp_path / "run")


def test_an_export_where_nothing_can_be_written_is_said(folder: Path) -> None:
    (folder / "export").write_text("the user's", encoding="utf-8")
    with pytest.raises(RunError, match="expected a folder at .*export"):
        export_pairs(folder, "trl")


@pytest.mark.parametrize("name", ["a b", "ä[1]*?", "lr=1e-4", "a\nb"])
def test_a_folder_of_any_name_can_hold_a_run(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        with opened(small_recipe(), tmp_path / name) as session:
            run_stage(session, "prompts")
    (tmp_path / name / "prompts/part-00000.parquet").unlink()
    refused = pytest.raises(RunError, match="part-00000.parquet is missing")
    with refused, opened(small_recipe(), tmp_path / name):
        pass


@pytest.mark.parametrize(
    "name", ["report/index.html", "warmup/config.json", "pairs/part-00000.parquet"]
)
def test_a_folder_in_the_place_of_a_file_is_found_before_the_work(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name / "mine").mkdir(parents=True)
    with pytest.raises(RunError, match="is missing"):
        run(small_recipe(), folder)
    before = files(folder)
    with pytest.raises(RunError, match=f"expected a file at .*{name}"):
        run(small_recipe(), folder, redo=True)
    assert files(folder) == before and (folder / name / "mine").is_dir()


@pytest.mark.parametrize("name", [".lock", ".lock-holder.json", "manifest.json", "recipe.yaml"])
def test_a_folder_in_the_place_of_a_file_is_refused(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name / "mine").mkdir(parents=True)
    with pytest.raises(WarmupDistillError, match=name):
        run(small_recipe(), folder)
    assert (folder / name / "mine").is_dir()


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 300, "File name too long"), (os.fsdecode(b"\xff"), "no UTF-8")]
)
def test_a_name_that_no_folder_can_have_is_said(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=words):
        run(small_recipe(), tmp_path / name)
    assert not list(tmp_path.iterdir())
