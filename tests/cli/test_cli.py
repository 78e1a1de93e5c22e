"""The command line as a user meets it: exit codes, one message, nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from warmup_distill.cli.app import app
from warmup_distill.cli.main import main
from warmup_distill.cli.options import MetricName, ProfileName
from warmup_distill.models.loading import BUNDLED
from warmup_distill.scoring.metrics import METRICS
from warmup_distill.suites.profiles import PROFILES

RECIPE = """
teacher: {teacher}
student: {student}
prompts: {{file: {file}, reference_column: reference, max_prompt_tokens: {longest}}}
rollouts: {{max_new_tokens: 32}}
"""
ROW = {"prompt": "Ava has 3 cups.", "reference": "#### 3"}


class Bench:
    """A folder to make mistakes in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "run"
        self.rows = folder / "rows.jsonl"
        self.rows.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
        self.values = {
            "teacher": "bundled:teacher",
            "student": "bundled:student",
            "file": str(self.rows),
            "longest": "null",
        }

    def run(
        self, monkeypatch: pytest.MonkeyPatch, *arguments: str, command: str = "prompts"
    ) -> int | None:
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(**self.values), encoding="utf-8")
        argv = ["warmup-distill", command, str(recipe), "--output-dir", str(self.output)]
        monkeypatch.setattr(sys, "argv", [*argv, *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code  # type: ignore[return-value]

    def copy_model(self, name: str, *, without: str = "") -> Path:
        target = self.folder / f"copy-of-{name}"
        target.mkdir()
        for path in (BUNDLED / name).iterdir():
            if path.name != without:
                (target / path.name).write_bytes(path.read_bytes())
        return target


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_good_recipe_exits_with_0(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.run(monkeypatch) == 0
    assert (bench.output / "prompts" / "part-00000.parquet").exists()


def _unknown_key(bench: Bench) -> list[str]:
    return ["--set", "rollouts.temprature=1"]


def _wrong_type(bench: Bench) -> list[str]:
    return ["--set", "warmup.beta=strong"]


def _threshold_of_zero(bench: Bench) -> list[str]:
    return ["--set", "rollouts.margin_threshold=0"]


def _no_samples(bench: Bench) -> list[str]:
    return ["--set", "rollouts.num_samples=0"]


def _missing_file(bench: Bench) -> list[str]:
    return ["--set", "prompts.file=nowhere.jsonl"]


def _missing_column(bench: Bench) -> list[str]:
    return ["--set", "prompts.prompt_column=question"]


def _empty_data(bench: Bench) -> list[str]:
    bench.rows.write_text("", encoding="utf-8")
    return []


def _long_prompt(bench: Bench) -> list[str]:
    bench.rows.write_text(json.dumps(ROW | {"prompt": "cups " * 300}), encoding="utf-8")
    return []


def _prompt_longer_than_allowed(bench: Bench) -> list[str]:
    bench.values["longest"] = "3"
    return []


def _other_tokenizer(bench: Bench) -> list[str]:
    folder = bench.copy_model("teacher")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(folder)
    bench.values["teacher"] = str(folder)
    return []


def _no_chat_template(bench: Bench) -> list[str]:
    bench.values["student"] = str(bench.copy_model("student", without="chat_template.jinja"))
    return []


def _no_weights(bench: Bench) -> list[str]:
    bench.values["student"] = str(bench.copy_model("student", without="model.safetensors"))
    return []


def _no_model(bench: Bench) -> list[str]:
    bench.values["teacher"] = "./nothing-here"
    return []


def _no_such_hub_model(bench: Bench) -> list[str]:
    bench.values["teacher"] = "nobody/nothing"
    return []


def _missing_benchmark_column(bench: Bench) -> list[str]:
    benchmark = f"name: b, file: {bench.rows}, metric: accuracy, answer_column: answer"
    return ["--set", f"evaluate.benchmarks=[{{{benchmark}}}]"]


MISTAKES = [
    (_unknown_key, "temprature: unknown key; did you mean temperature?"),
    (_wrong_type, "warmup.beta"),
    (_threshold_of_zero, "greater than 0, got 0"),
    (_no_samples, "greater than or equal to 1, got 0"),
    (_missing_file, "nowhere.jsonl, but there is none"),
    (_missing_column, "expected a column `question`, but the columns are prompt, reference"),
    (_empty_data, "expected rows in"),
    (_long_prompt, "but at most 224 fit (context 256, of which 32 are for the completion)"),
    (_prompt_longer_than_allowed, "max_prompt_tokens 3"),
    (_other_tokenizer, "need the same tokenizer, but id"),
    (_no_chat_template, "has none. Give it one, or take plain text (prompts.format: text)"),
    (_no_weights, "expected weights as *.safetensors"),
    (_no_model, "./nothing-here: expected a model at"),
    (_no_such_hub_model, "nobody/nothing cannot be loaded"),
    (_missing_benchmark_column, "expected a column `answer`"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_mistake_gives_one_message_exit_code_2_and_no_folder(
    mistake: object,
    message: str,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = mistake(bench)  # type: ignore[operator]
    assert bench.run(monkeypatch, *arguments, command="run") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert "Traceback" not in error
    assert not bench.output.exists()


def test_a_folder_of_another_recipe_is_refused_and_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(monkeypatch) == 0
    before = {p: p.read_bytes() for p in bench.output.rglob("*") if p.is_file()}
    assert bench.run(monkeypatch, "--set", "rollouts.margin_threshold=3") == 2
    error = capsys.readouterr().err
    assert "rollouts.margin_threshold: 4.0 there, 3.0 here" in error
    assert before == {p: p.read_bytes() for p in bench.output.rglob("*") if p.is_file()}


def test_a_folder_below_a_file_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.output = bench.rows / "below"
    assert bench.run(monkeypatch) == 2
    assert "but it is a file" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.output.mkdir()
    (bench.output / "thesis.tex").write_text("precious", encoding="utf-8")
    assert bench.run(monkeypatch) == 2
    assert "holds no run" in capsys.readouterr().err
    assert [path.name for path in bench.output.iterdir()] == ["thesis.tex"]


def test_a_stage_says_which_one_it_needs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(monkeypatch, command="pairs") == 2
    assert "pairs needs the stage prompts" in capsys.readouterr().err


def test_export_of_a_folder_without_pairs_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["warmup-distill", "export", str(bench.folder), "--to", "trl"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2 and "expected pairs in" in capsys.readouterr().err


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | None:
    monkeypatch.setattr(sys, "argv", ["warmup-distill", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code  # type: ignore[return-value]


def test_score_writes_a_line_per_row_and_the_mean_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made.jsonl"
    rows = [
        {"id": "a", "prediction": "so\n#### 4", "answer": "4"},
        {"id": "b", "prediction": "five", "answer": "5"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert invoke(monkeypatch, "score", str(file), "--metric", "gsm8k_strict") == 0
    first, second, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"id": "a", "value": 100.0, "extracted": "4"}
    assert second == {"id": "b", "value": 0.0}
    # deviation √((50² + 50²) / 1) = 70.7, over √2
    assert summary == {"metric": "gsm8k_strict", "rows": 2, "mean": 50.0, "standard_error": 50.0}


def test_score_of_a_missing_file_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(monkeypatch, "score", "nowhere.jsonl", "--metric", "rouge_l") == 2
    assert "nowhere.jsonl, but there is none" in capsys.readouterr().err


def test_the_choices_of_the_command_line_are_those_that_there_are() -> None:
    assert {one.value for one in MetricName} == set(METRICS)
    assert {one.value for one in ProfileName} == set(PROFILES)


def test_a_run_s_models_are_evaluated_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(monkeypatch)
    bench.copy_model("student").rename(bench.output / "warmup")
    asked = ("--suite", "problems", "--limit", "3")
    assert invoke(monkeypatch, "evaluate", str(bench.output), *asked) == 0
    found = sorted(str(p.relative_to(bench.output)) for p in bench.output.glob("suites/*/*.json"))
    models = ("student", "teacher", "warmup")
    assert found == [f"suites/{model}/problems-clean.json" for model in models]
    assert "gsm8k_strict" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "3"), "--limit has no effect here: it belongs to `evaluate` with --suite"),
        ((), "To evaluate a model or a run on the benchmarks of the field, add --suite NAMES"),
        (("--suite", "problems", "--redo"), "--redo has no effect here"),
        (("--suite", "problems,gsm9k"), "expected suites from dolly"),
    ],
)
def test_an_option_of_evaluate_without_effect_is_a_mistake(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(monkeypatch, "evaluate", "bundled:student", *arguments) == 2
    assert message in capsys.readouterr().err


def test_every_stage_is_a_command() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for command in ("run", "prompts", "rollouts", "pairs", "warmup", "distill", "evaluate"):
        assert command in text


def test_the_module_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "warmup_distill", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Run all stages" in done.stdout
