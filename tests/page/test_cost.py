"""What a model cost stands beside its scores, and is the sum of all that went into it."""

import io
import json
from pathlib import Path

import pytest
from make_run import make_recipe, make_run, make_tokenizer
from rich.console import Console

from warmup_distill.errors import RunError
from warmup_distill.ledger.paths import compute
from warmup_distill.page.table import table_rows
from warmup_distill.page.terminal import render_tables
from warmup_distill.stages.report import make_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", make_tokenizer())
    return tmp_path / "run"


def shown(folder: Path) -> str:
    text = io.StringIO()
    for table in render_tables(folder):
        Console(markup=False, width=80, file=text).print(table)
    return text.getvalue()


def manifest_of(folder: Path) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = json.loads(
        (folder / "manifest.json").read_text(encoding="utf-8")
    )
    return found


def test_a_model_cost_all_that_went_into_it() -> None:
    def entry(operations: int, *uses: str) -> dict[str, object]:
        cost = [{"operations": operations}, {"operations": 1}]
        return {"state": "complete", "cost": cost, "uses": uses}

    stages = {
        "cut": entry(1000), "rollouts": entry(100, "cut"), "warmup": entry(20, "rollouts"),
        "distill": entry(3, "warmup", "rollouts"), "control": entry(3, "cut"),
        "evaluate": entry(10_000),
    }  # fmt: skip
    found = {model: compute(stages, model) for model in ("student", "warmup", "distill", "control")}
    # two entries each: the second one is a single operation
    assert found == {"student": 1001, "warmup": 1123, "distill": 1127, "control": 1005}
    # what is not done, or was done by an earlier version, is not known
    for stage in ({"state": "open"}, {"state": "complete"}):
        assert compute(stages | {"warmup": stage}, "distill") is None
        assert compute(stages | {"warmup": stage}, "control") == 1005
    assert compute({}, "student") == 0


def test_table_page_and_report_show_the_cost_of_each_model(folder: Path) -> None:
    costs = {row.model: (row.operations, row.cost) for row in table_rows(folder)}
    assert costs == {
        "student": (0, 0.0), "warmup": (9 * 10**14, 0.9), "control": (10**14, 0.1),
        "distill": (10**15, 1.0),
    }  # fmt: skip
    lines = shown(folder).splitlines()
    (control,) = [line.rstrip() for line in lines if line.startswith("distilled only")]
    assert control.endswith("0.10")
    assert "1.0e15" in shown(folder)
    make_report(folder, make_recipe(), make_tokenizer())
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "0.10 <small>1.0e14</small>" in page and "1.00 <small>1.0e15</small>" in page
    table = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))["table"]
    assert [row["operations"] for row in table] == [0, 9 * 10**14, 10**14, 10**15]


def test_a_run_of_an_earlier_version_has_no_such_column(folder: Path) -> None:
    manifest = manifest_of(folder)
    for stage in manifest["stages"].values():
        stage.pop("cost", None)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert {row.cost for row in table_rows(folder)} == {None}
    assert "cost" not in shown(folder).lower()


def test_costs_that_are_none_are_refused_in_words(folder: Path) -> None:
    manifest = manifest_of(folder)
    manifest["stages"]["warmup"]["cost"] = [{"operations": "many"}]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RunError, match="does not say what the stages cost"):
        table_rows(folder)
