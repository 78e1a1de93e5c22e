"""What a study shows: numbers of its runs, readable while it runs, and nothing that can act."""

import csv
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_studies import written

from warmup_distill.cluster.places import Here
from warmup_distill.errors import RunError
from warmup_distill.store.artifacts import read_json
from warmup_distill.studies.charts import file_name, said
from warmup_distill.studies.page import Showing
from warmup_distill.studies.planning import plan_study
from warmup_distill.studies.results import write_table
from warmup_distill.studies.running import RUNS, run_all, run_study
from warmup_distill.studies.settings import Study, load_study
from warmup_distill.studies.summary import Summaries, grouped

HOSTILE = "</title><script>alert(1)</script> | \x1b[31m"
BENCHMARK = {"name": "problems", "dataset": "bundled:problems", "split": "test", "limit": 12}
STUDY: dict[str, Any] = {
    "title": HOSTILE,
    "set": {"control": ["steps", "compute"], "evaluate.samples": 2, "warmup.watch.prompts": 2,
            "evaluate.benchmarks": [BENCHMARK]},
    "grid": {"rollouts.margin_threshold": [1.0, 4.0]},
    "seeds": [0, 42],
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load_study(written(tmp_path_factory.mktemp("written"), **STUDY))


@pytest.fixture(scope="module")
def folder(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "study"
    assert run_study(study, folder) == {}
    return folder


def scores(folder: Path, run: str, model: str) -> Any:
    return read_json(folder / RUNS / run / "evaluate" / model / "problems.json")


def test_tables_hold_what_the_runs_say_in_two_forms(folder: Path, study: Study) -> None:
    for name, count in (("runs", 4), ("scores", 4 * 5)):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count == pq.read_table(folder / f"{name}.parquet").num_rows
    one = next(row for row in rows if row["model"] == "control" and row["seed"] == "42")
    there = scores(folder, one["run"], "control")
    assert float(one["greedy"]) == there["greedy"]["mean"]
    assert float(one["reverse_kl"]) == there["agreement"]["reverse_kl"]
    spent = json.loads((folder / RUNS / one["run"] / "manifest.json").read_text())["stages"]
    assert int(one["operations"]) == sum(c["operations"] for c in spent["control"]["cost"])


def test_a_setting_is_the_mean_of_its_seeds_and_a_difference_that_of_its_models(
    folder: Path, study: Study
) -> None:
    runs = grouped(study.runs)[1]
    (outcome,) = Summaries().of([(run, folder / RUNS / run.name) for run in runs])
    assert outcome.seeds == [0, 42] and outcome.setting == runs[0].setting
    means = {
        model: statistics.fmean(scores(folder, run.name, model)["sampled"]["mean"] for run in runs)
        for model in ("student", "distill", "control", "control_compute")
    }
    for one in outcome.standings:
        if one.model in means:
            assert one.values["sampled"].mean == pytest.approx(means[one.model])
    for one in outcome.differences:
        if one.measure.key == "sampled":
            assert one.effect.mean == pytest.approx(means["distill"] - means[one.against])
            assert one.effect.seeds == 2 and one.effect.is_paired
    (student,) = [one for one in outcome.standings if one.model == "student"]
    assert student.values["sampled"].seeds == 1  # nothing trained it: its seeds are more samples


def test_the_page_has_every_figure_and_nothing_that_acts(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "alert(1)" in page and "\x1b" not in page
    assert "4</b> of <b>4</b> runs" in page
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert len(list((folder / "figures").iterdir())) == 3 * len(drawn)
    assert "sampled-compute-problems" in drawn
    assert "median-index-rollouts.margin-threshold" in drawn
    assert page.count("<figure>") == len(drawn)
    text = (folder / "study.md").read_text(encoding="utf-8")
    assert "held against “distilled for longer”, is" in text and "of 2 settings" in text


def test_a_study_that_stopped_shows_what_is_there_and_ends_the_same(
    folder: Path, study: Study, tmp_path: Path
) -> None:
    half = tmp_path / "study"
    shutil.copytree(folder, half)
    gone = study.runs[2].name
    for one in ("index.html", "study.md", "runs.csv", "scores.csv"):
        (half / one).unlink()
    shutil.rmtree(half / RUNS / gone)
    showing = Showing(study=study, folder=half, runs_in=half / RUNS)
    showing.write({gone: "it broke <here>"})
    page = (half / "index.html").read_text(encoding="utf-8")
    assert "3</b> of <b>4</b>" in page and "it broke &lt;here&gt;" in page
    assert run_all(study, half, Here(), showing.write) == {}
    assert (half / "scores.csv").read_bytes() == (folder / "scores.csv").read_bytes()
    assert (half / "study.md").read_bytes() == (folder / "study.md").read_bytes()


def test_the_plan_of_a_study_counts_what_is_shared(folder: Path, study: Study) -> None:
    text, problems = plan_study(study, folder, measured=False)
    assert problems == []
    assert "4: 2 settings times 2 seeds; 4 complete" in text
    assert "prompts 1 for 4, rollouts 4, pairs 4" in text and "control 2 for 4" in text
    text, _ = plan_study(study, folder.parent / "other", measured=True)
    assert "0 complete" in text and "time       about" in text


def test_the_plan_of_a_study_names_every_setting_that_is_wrong(tmp_path: Path) -> None:
    grid = {"student": ["bundled:student", "nowhere"]}
    wrong = load_study(written(tmp_path, grid=grid))
    text, problems = plan_study(wrong, tmp_path / "study", measured=False)
    assert problems and all(one.startswith("student=nowhere,seed=0: ") for one in problems)
    assert "what is wrong" in text


def test_a_column_of_unlike_kinds_is_text_and_a_large_number_is_one(tmp_path: Path) -> None:
    rows = [
        {"a": "auto", "b": 2**70, "c": True, "d": [1, "x"], "e": None},
        {"a": 512, "b": 3, "c": False, "d": None, "e": 2.5},
    ]
    write_table(tmp_path, "table", rows)
    found = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert found == [
        {"a": "auto", "b": float(2**70), "c": True, "d": "[1, 'x']", "e": None},
        {"a": "512", "b": 3.0, "c": False, "d": None, "e": 2.5},
    ]


def test_a_folder_of_another_study_or_of_somebody_else_is_refused(
    folder: Path, study: Study, tmp_path: Path
) -> None:
    other = load_study(written(tmp_path, **(STUDY | {"set": STUDY["set"] | {"warmup.beta": 7.0}})))
    with pytest.raises(RunError, match="made by another recipe"):
        run_study(other, folder)
    mine = tmp_path / "site"
    mine.mkdir()
    (mine / "index.html").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="not ours to write into"):
        run_study(study, mine)
    assert (mine / "index.html").read_text(encoding="utf-8") == "mine"


def test_a_run_that_is_damaged_is_said_and_the_others_go_on(
    folder: Path, study: Study, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "study")
    damaged = study.runs[1].name
    (tmp_path / "study" / RUNS / damaged / "manifest.json").write_text("{", encoding="utf-8")
    shutil.rmtree(tmp_path / "study" / RUNS / study.runs[3].name)
    assert [*run_study(study, tmp_path / "study")] == [damaged]
    page = (tmp_path / "study" / "index.html").read_text(encoding="utf-8")
    assert "3</b> of <b>4</b> runs" in page


def test_names_of_settings_and_files_are_plain() -> None:
    assert said({"setting": "few", "warmup.beta": 0.5}) == "few, warmup.beta 0.5"
    assert file_name("../../etc/passwd ☃") == "etc-passwd"
    assert file_name("☃") == "figure"
