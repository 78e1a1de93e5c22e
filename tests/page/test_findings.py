"""What the report says of the warm-up follows from paired answers, and is said alike everywhere."""

import dataclasses
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from make_run import make_recipe, make_run, make_tokenizer, write_scores
from rich.console import Console

from warmup_distill.page.contrasts import Contrast
from warmup_distill.page.findings import Finding, findings
from warmup_distill.page.measures import MEASURES
from warmup_distill.page.table import table_rows
from warmup_distill.page.terminal import render_tables
from warmup_distill.records import Prediction
from warmup_distill.scoring.intervals import Errors, Interval
from warmup_distill.stages.report import make_report
from warmup_distill.store.artifacts import read_json, read_records, write_records

SCORES = ("greedy", "sampled")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings") / "run"
    make_run(folder, make_tokenizer())
    return folder


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def contrast(key: str, low: float, high: float, training: float = 0.0) -> Contrast:
    (measure,) = [one for one in MEASURES if one.key == key]
    change = (low + high) / 2
    effect = Interval(
        mean=change, low=low, high=high, prompts=100, below=change - low, above=high - change,
        training=training, errors=Errors(prompts=1.0, decoding=None, training=None),
    )  # fmt: skip
    return Contrast(measure=measure, ours=1.0, theirs=1.0 - change, change=change, effect=effect)


def finding(**intervals: tuple[float, float]) -> Finding:
    return Finding(
        benchmark="b", contrasts=[contrast(key, *ends) for key, ends in intervals.items()]
    )


def shown(folder: Path) -> str:
    console = Console(markup=False, width=80, file=io.StringIO())
    for table in render_tables(folder):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def page(folder: Path) -> tuple[str, dict[str, Any]]:
    make_report(folder, make_recipe(), make_tokenizer())
    text = (folder / "report" / "index.html").read_text(encoding="utf-8")
    return text, read_json(folder / "report" / "report.json")


@pytest.mark.parametrize(
    ("intervals", "answer"),
    [
        ({"greedy": (-1, 1), "sampled": (1, 3)}, "yes"),
        ({"greedy": (-1, 1), "sampled": (-3, -1)}, "no, it hurt"),
        ({"greedy": (-1, 1), "sampled": (-1, 3)}, "no clear difference"),
        ({"greedy": (-3, -1), "sampled": (1, 3)}, "in part"),
        ({"sampled": (-1, 3), "forward_kl": (-0.2, -0.1)}, "yes"),
        ({"sampled": (-1, 3), "forward_kl": (0.1, 0.2)}, "no, it hurt"),
        ({"sampled": (1, 3), "mismatch_share": (0.01, 0.02)}, "in part"),
    ],
)
def test_the_answer_looks_at_every_measure(
    intervals: dict[str, tuple[float, float]], answer: str
) -> None:
    assert finding(**intervals).answer == answer


def test_the_sentence_names_size_interval_and_number_of_prompts() -> None:
    said = finding(
        greedy=(-1.0, 0.8), sampled=(1.0, 2.6), mismatch_share=(-0.03, 0.01),
        mean_margin=(-0.06, -0.04), forward_kl=(0.01, 0.02),
    ).sentence  # fmt: skip
    assert said == (
        "The warm-up adds 1.8 points to the sampled score (95% interval +1.0 to +2.6) and makes no "
        "clear difference to the greedy score (−0.1, 95% interval −1.0 to +0.8), over 100 prompts "
        "that both students answered; the student is nearer to its teacher by margin, further "
        "from its teacher by KL(teacher ‖ model) and neither clearly nearer to its teacher nor "
        # 0.9 to either side of −0.1 wants 81 times the prompts, 0.02 of −0.01 four times
        "further from it by mismatches. What is not clear would take about 8,000 prompts more for "
        "the greedy score and about 300 prompts more for mismatches to settle, if the differences "
        "stay what they are."
    )


@pytest.mark.parametrize(
    ("interval", "needed"),
    [
        ((0.5, 2.5), None),  # clear
        ((-1.0, 4.0), "about 180 prompts more"),  # 2.5 of 1.5: 2.8 times the prompts
        ((-1.0, 1.0), "over 100 times as many prompts"),  # no difference at all
        ((-1.0, 1.02), "over 100 times as many prompts"),
        ((-1.0, 4.0, 2.0), "more training seeds"),  # 2.0 of them do not go away with prompts
    ],
)
def test_an_unclear_difference_says_what_would_settle_it(
    interval: tuple[float, ...], needed: str | None
) -> None:
    assert contrast("sampled", *interval).to_tell == needed


def test_differences_are_those_of_the_prompts_that_both_students_answered(run: Path) -> None:
    (found,) = findings(run, table_rows(run))
    rows = {
        model: read_records(run / "evaluate" / model / "predictions.parquet", Prediction)
        for model in ("distill", "control")
    }
    means: dict[str, dict[str, float]] = {}
    for model, some in rows.items():
        sampled = [one for one in some if one.decoding == "sampled"]
        checked = [one for one in sampled if one.margin is not None]
        tokens = sum(one.tokens for one in checked)
        means[model] = {
            "sampled": sum(one.value for one in sampled) / len(sampled),
            "mismatch_share": sum(bool(one.has_mismatch) for one in checked) / len(checked),
            "forward_kl": sum(one.forward_kl or 0 for one in checked) / tokens,
        }
    by_key = {one.measure.key: one for one in found.contrasts}
    assert list(by_key) == [measure.key for measure in MEASURES]
    for key, with_warmup in means["distill"].items():
        expected = with_warmup - means["control"][key]
        assert by_key[key].change == pytest.approx(expected, abs=1e-5)
    numbers = {key: one.effect.prompts for key, one in by_key.items() if one.effect}
    assert numbers == {key: 400 if key in SCORES else 300 for key in by_key}


def test_several_samples_of_a_prompt_count_as_one(folder: Path) -> None:
    for model in ("distill", "control"):
        shutil.rmtree(folder / "evaluate" / model)
    write_scores(folder, prompts=50, samples=4, checked=50)
    rows = {row.model: row for row in table_rows(folder)}
    (found,) = findings(folder, [rows["distill"], rows["control"]])
    assert {one.effect and one.effect.prompts for one in found.contrasts} == {50}
    assert "50 prompts, 4 samples of each" in shown(folder)
    errors = {one.measure.key: one.effect.errors for one in found.contrasts if one.effect}
    assert errors["greedy"].decoding is None and errors["sampled"].decoding
    assert f"by ±{errors['sampled'].decoding:.2f} points" in page(folder)[0]


def test_students_that_answered_other_prompts_are_not_said_to_be_paired(folder: Path) -> None:
    shutil.rmtree(folder / "evaluate")
    write_scores(folder, prompts=60, checked=20)
    whole = read_records(folder / "evaluate/control/predictions.parquet", Prediction)
    some = [one for one in whole if one.prompt_id >= "test-000010"]
    write_records(folder / "evaluate/control/predictions.parquet", Prediction, some)
    text, numbers = page(folder)
    (found,) = numbers["did_the_warmup_help"]
    assert not any(one["paired"] for one in found["differences"])
    assert "over 50 prompts of each, not the same ones" in found["sentence"]
    assert "the same random numbers" not in text and ", paired" not in text


def test_page_terminal_and_numbers_say_the_same(run: Path) -> None:
    text, numbers = page(run)
    terminal = " ".join(shown(run).split())
    (found,) = numbers["did_the_warmup_help"]
    assert found["sentence"].replace(" ‖ ", "\N{NO-BREAK SPACE}‖\N{NO-BREAK SPACE}") in text
    assert found["sentence"] in terminal
    for row, measure in ((r, m) for r in table_rows(run) for m in MEASURES):
        value = measure.show(row.value(measure.key))
        assert f"<td>{value}" in text and value in terminal
    for one, measure in zip(found["differences"], MEASURES, strict=True):
        assert one["measure"] == measure.key
        for end in ("difference", "low", "high"):
            value = measure.show_change(one[end])
            assert value in text and value in terminal


def test_without_values_of_single_prompts_nothing_is_claimed(folder: Path) -> None:
    for path in folder.glob("evaluate/*/predictions.parquet"):
        path.unlink()
    text, numbers = page(folder)
    (found,) = numbers["did_the_warmup_help"]
    assert found["answer"] == "not known" and "the pairing is not known" in text
    assert {one["low"] for one in found["differences"]} == {None}
    assert all(one["difference"] is not None for one in found["differences"])
    assert "pairing is not known" in shown(folder).replace("\n", " ")


def test_a_run_of_an_older_version_still_pairs_what_it_kept(folder: Path) -> None:
    added = ["sample_index", "tokens", "has_mismatch", "margin", "forward_kl", "reverse_kl"]
    for path in folder.glob("evaluate/*/predictions.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(added), path)
    (found,) = page(folder)[1]["did_the_warmup_help"]
    known = {one["measure"]: one["verdict"] != "unknown" for one in found["differences"]}
    assert known == {measure.key: measure.key in SCORES for measure in MEASURES}
    assert "the pairing of the distances from the teacher is not known" in found["sentence"]


def test_one_student_alone_is_no_finding(folder: Path) -> None:
    shutil.rmtree(folder / "evaluate" / "control")
    assert findings(folder, table_rows(folder)) == []
    assert "effect of the warm-up" not in shown(folder)


def test_numbers_fit_into_80_columns_whole(folder: Path) -> None:
    shutil.rmtree(folder / "evaluate")
    write_scores(folder, benchmark="few", prompts=11, checked=11, seed=5)
    lines = shown(folder).splitlines()
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)


def test_strips_point_to_the_right_where_the_warm_up_is_better() -> None:
    better, worse = contrast("sampled", 1.0, 4.0), contrast("forward_kl", 0.1, 0.4)
    assert better.strip == (62.5, 25.0, 100.0)
    assert worse.strip == (-62.5, -100.0, -25.0)
    assert dataclasses.replace(better, effect=None).strip is None


def test_every_share_on_the_page_has_one_digit(run: Path) -> None:
    aside = re.compile(r"<style>.*?</style>|<script.*?</script>|95% interval", re.DOTALL)
    shares = re.findall(r"[\d.]+%", aside.sub("", page(run)[0]))
    assert shares and all(re.fullmatch(r"\d+\.\d%", one) for one in shares)
