"""Nothing foreign steers the terminal, and no encoding or want of memory ends in a traceback."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.table import Table

from warmup_distill.cli import screen
from warmup_distill.cli.main import main
from warmup_distill.foreign.showing import clean
from warmup_distill.models.loading import BUNDLED

ESCAPE = "\x1b]0;x\x07\x1b[2J\u202e\x9b31m"
"""Sets a terminal's title, empties it, turns the reading direction, and colours what follows."""
RAISING = f"{{{{ raise_exception('{ESCAPE}') }}}}"


def outcome(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    """Exit code, and all that was printed, after holding it to what may leave."""
    monkeypatch.setattr(sys, "argv", ["warmup-distill", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    shown = "".join(capsys.readouterr())
    assert clean(shown.replace("\r", "")) == shown.replace("\r", "")
    return exit_.value.code, shown


def recipe(folder: Path, **values: Any) -> str:
    known = {"teacher": "bundled:teacher", "student": "bundled:student",
             "prompts": {"dataset": "bundled:problems", "limit": 3},
             "rollouts": {"max_new_tokens": 32}}  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(known | values), encoding="utf-8")
    return str(folder / "recipe.yaml")


def rows(folder: Path, *some: dict[str, Any], name: str = "rows.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    return str(folder / name)


def template(folder: Path, text: str) -> str:
    copy = Path(shutil.copytree(BUNDLED / "student", folder / "student"))
    (copy / "chat_template.jinja").write_text(text, encoding="utf-8")
    return str(copy)


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    "where", ["column", "id twice", "file name", "template", "value", "recipe's key", "model"]
)
def test_foreign_text_in_a_message_steers_no_terminal(
    where: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    row = {"prompt": "a", "id": f"i{ESCAPE}"}
    values: dict[str, Any] = {
        "column": lambda: {"prompts": {"file": rows(tmp_path, {f"c{ESCAPE}": "a"})}},
        "id twice": lambda: {"prompts": {"file": rows(tmp_path, row, row)}},
        "file name": lambda: {"prompts": {"file": rows(tmp_path, {}, name=f"n{ESCAPE[1:]}.jsonl")}},
        "template": lambda: {
            "student": template(tmp_path, f"{{{{ raise_exception('{ESCAPE}') }}}}")
        },
        "value": lambda: {"prompts": {"file": rows(tmp_path, {"prompt": [ESCAPE]})}},
        "recipe's key": lambda: {f"k{ESCAPE}": 1},
        "model": lambda: {"teacher": f"m{ESCAPE[1:]}"},
    }[where]()
    if "prompts" in values:
        values["prompts"]["reference_column"] = "prompt"
    arguments = [command, recipe(tmp_path, **values), "--output-dir", str(tmp_path / "run")]
    code, shown = outcome(arguments, monkeypatch, capsys)
    assert code == 2 and "Traceback" not in shown


def test_ids_that_are_scored_are_escaped_and_stay_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{ESCAPE} é 中"
    file = rows(tmp_path, {"prediction": "a", "reference": "a", "id": name})
    code, shown = outcome(["score", file, "--metric", "exact_match"], monkeypatch, capsys)
    first, _ = map(json.loads, shown.splitlines())
    assert code == 0 and first["id"] == name and "é 中" in shown


def test_the_holder_of_a_folder_steers_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock-holder.json").write_text(json.dumps({"process": 1, "host": ESCAPE}))
    with FileLock(run / ".lock"):
        arguments = ["prompts", recipe(tmp_path), "--output-dir", str(run)]
        code, shown = outcome(arguments, monkeypatch, capsys)
    assert code == 2 and "in use by" in shown


def test_a_fault_of_our_own_shows_its_traceback_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError(f"a fault of ours {ESCAPE}")

    monkeypatch.setattr("warmup_distill.scoring.files.score_file", fail)
    code, shown = outcome(["score", "x", "--metric", "boxed"], monkeypatch, capsys)
    assert code == 1 and "Traceback" in shown and "a fault of ours" in shown


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (MemoryError(), 1, "not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            1,
            "not enough",
        ),
        (ImportError("libx.so: failed to map segment from shared object"), 1, "not enough memory"),
        (OSError(36, "File name too long", "x"), 2, "error: "),
        (PermissionError(13, "Permission denied", f"x{ESCAPE}"), 1, "the system refuses"),
        (OSError(28, "No space left on device"), 1, "the disk is full"),
    ],
)
def test_what_the_system_refuses_is_said_in_a_sentence(
    fault: Exception, code: int, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("warmup_distill.scoring.files.score_file", fail)
    found, shown = outcome(["score", "x", "--metric", "boxed"], monkeypatch, capsys)
    assert found == code and said in shown and "Traceback" not in shown


@pytest.mark.parametrize("option", ["--limit", "--max-new-tokens", "--batch-tokens"])
def test_no_number_of_the_command_line_can_be_extreme(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("0", "9" * 30, "9" * 5000, "1e9"):
        arguments = ["evaluate", "bundled:student", "--suite", "problems", option, value]
        code, shown = outcome(arguments, monkeypatch, capsys)
        assert code == 2 and "Traceback" not in shown


@pytest.mark.parametrize(("name", "place"), [("../student", "student"), ("..", "model")])
def test_results_of_a_model_stay_below_their_folder(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    parent = tmp_path if name == "../student" else tmp_path / "up"
    shutil.copytree(BUNDLED / "student", parent / "student" if parent == tmp_path else parent)
    (parent / "here").mkdir()
    monkeypatch.chdir(parent / "here")
    arguments = ["evaluate", name, "--suite", "problems", "--limit", "1", "--max-new-tokens", "4"]
    code, _ = outcome(arguments, monkeypatch, capsys)
    results = list(tmp_path.rglob("problems-clean.json"))
    assert code == 0 and results == [parent / f"here/evaluations/{place}/problems-clean.json"]


def test_a_message_ends_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say("x" * 10**6)
    assert len(capsys.readouterr().out) < 21_000


def test_a_table_is_cleaned_before_it_is_laid_out(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=f"t{ESCAPE}")
    table.add_column(f"head{ESCAPE}")
    table.add_row(f"a{ESCAPE}b")
    screen.show(table, width=60)
    shown = capsys.readouterr().out
    assert clean(shown) == shown and "a]0;x[2J31mb" in shown
    widths = {len(line) for line in shown.splitlines() if line.startswith(("┃", "│"))}
    assert len(widths) == 1


PROGRAM = f"""
import logging, sys, warnings
from warmup_distill.cli import main, screen
screen.guard()
main.quiet_libraries()
import transformers, huggingface_hub, datasets
from transformers.utils import logging as theirs
bad = {ESCAPE!r}
for name in ("warmup_distill.x", "transformers.x", "huggingface_hub.x", "datasets.x", "other"):
    logging.getLogger(name).error("line of %s: %s", name, bad)
warnings.warn("a warning: " + bad)
screen.say("said: ‖ \\ud800 中" + bad)
screen.say_json({{"id": "中" + bad}})
"""


@pytest.mark.parametrize("ci", ["", "true"], ids=["at home", "in CI"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_log_lines_warnings_and_text_are_clean_and_once_in_every_encoding(
    encoding: str, ci: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM],
        env=os.environ | {"PYTHONIOENCODING": encoding, "CI": ci},
        capture_output=True,
        check=True,
    )
    shown = (done.stdout + done.stderr).decode(encoding)
    assert clean(shown) == shown and shown.count("line of") == 5 and "a warning" in shown
    said, line = done.stdout.decode(encoding).splitlines()
    assert json.loads(line) == {"id": "中" + ESCAPE}
    assert said.startswith("said: ‖  中" if encoding == "utf-8" else "said: \\u2016 ")


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_too_few_addresses_are_said_before_a_library_tries_without_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "warmup_distill", "plan", recipe(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=little_memory)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert "ulimit -v unlimited" in done.stderr and done.stderr.count("\n") == 1
