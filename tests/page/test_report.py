"""The report: its numbers are right, and nothing that a model wrote can act on the page."""

import base64
import hashlib
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_run import Extras, make_recipe, make_run, make_tokenizer

from warmup_distill.figures.chart import Chart
from warmup_distill.foreign.showing import clean
from warmup_distill.page.cards import make_card, token_texts, verdict_of
from warmup_distill.page.mismatches import mismatch_charts, survey_rollouts
from warmup_distill.page.scores import score_charts
from warmup_distill.page.table import table_rows
from warmup_distill.page.training import trainings
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.stages.report import make_report
from warmup_distill.store.artifacts import read_json, read_parts, write_json, write_parts
from warmup_distill.store.leaves import FIGURES, leaves

PAYLOADS = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">here</a>',
    "<!--<script>",
    "{{ 7 * 7 }}",
]
HOSTILE = " ".join(PAYLOADS) + "\u202egnp.exe\x1b[31m"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


class Elements(HTMLParser):
    """Every element of a page, with its attributes and the text that it begins with."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))
        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def named(self, tag: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [element for element in self.found if element[0] == tag]


def rollout(margins: list[float], mismatch_index: int | None) -> Rollout:
    """A rollout whose student log-probabilities are 0, so that a margin is −log p."""
    return Rollout(
        prompt_id="p",
        sample_index=0,
        completion_ids=[0] * 5,
        student_logprobs=[0.0] * 5,
        teacher_logprobs=[-margin for margin in margins],
        mismatch_index=mismatch_index,
        margin=max(margins),
        continuation_ids=None,
        continuation_ref_logprobs=None,
        finish_reason="eos",
        continuation_finish_reason=None,
    )


def report(folder: Path, tokenizer: Any, **sections: Any) -> tuple[str, dict[str, Any]]:
    make_report(folder, make_recipe(**sections), tokenizer)
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    return page, read_json(folder / "report" / "report.json")


def test_survey_matches_a_count_by_hand() -> None:
    rollouts = [rollout([0.2, 5.0], 1), rollout([4.5], 0), rollout([0.2, -0.3, 1.0], None)]
    survey = survey_rollouts(rollouts, threshold=4.0)
    assert (survey.samples, survey.mismatching, survey.tokens) == (3, 2, 6)
    assert survey.median_index == 0
    assert survey.index_histogram.counts == [1, 1]
    shares = dict(survey.curve)
    # largest margins 5, 4.5 and 1: all exceed 0.75, two exceed 1 (strictly), one exceeds 4.5
    assert shares[0.75] == 1
    assert math.isclose(shares[1.0], 2 / 3)
    assert math.isclose(shares[4.0], 2 / 3)
    assert math.isclose(shares[4.5], 1 / 3)


def test_a_margin_equal_to_the_threshold_is_counted_left_of_it() -> None:
    histogram = survey_rollouts([rollout([4.0], None)], threshold=4.0).margin_histogram
    assert histogram.counts == [1]
    assert histogram.edges(0) == (3.5, 4.0)


@given(
    st.lists(st.lists(st.floats(-30, 60), min_size=1, max_size=5), min_size=1, max_size=30),
    st.sampled_from([0.5, 3.3, 4.0, 25.0]),
)
def test_survey_loses_nothing_and_its_curve_never_rises(
    all_margins: list[list[float]], threshold: float
) -> None:
    def first(margins: list[float]) -> int | None:
        return next((i for i, margin in enumerate(margins) if margin > threshold), None)

    survey = survey_rollouts([rollout(one, first(one)) for one in all_margins], threshold)
    shares = [share for _, share in survey.curve]
    margins = survey.margin_histogram
    beyond = [
        sum(value <= -10 for one in all_margins for value in one),
        sum(value > max(20, 2 * threshold) for one in all_margins for value in one),
    ]
    assert [margins.below, margins.above] == beyond
    assert sum(margins.counts) == sum(map(len, all_margins)) - sum(beyond)
    assert sum(survey.index_histogram.counts) == survey.mismatching
    assert shares == sorted(shares, reverse=True)
    assert math.isclose(dict(survey.curve)[threshold], survey.mismatching / survey.samples)


def test_what_is_beyond_the_scale_stands_apart_and_says_so() -> None:
    margins = [-30.0, -10.0, 0.2, 0.3, 20.0, 20.1, 90.0]
    survey = survey_rollouts([rollout(margins[:5], 4), rollout(margins[5:], 0)], threshold=4.0)
    histogram = survey.margin_histogram
    assert (histogram.below, histogram.above) == (2, 2)
    assert (histogram.start, histogram.end, sum(histogram.counts)) == (-10, 20, 3)
    chart = mismatch_charts(survey, stopped=False)[1]
    assert isinstance(chart, Chart)
    told = [*chart.told.values()]
    assert told[0] == "−10.0 nats and less: 2 tokens"
    assert told[-1] == "more than 20.0 nats: 2 tokens"
    assert "stands apart" in (chart.caption.note or "")


def test_a_survey_of_margins_that_are_all_beyond_draws() -> None:
    survey = survey_rollouts([rollout([30.0] * 5, 0)], threshold=4.0)
    chart = mismatch_charts(survey, stopped=True)[1]
    assert isinstance(chart, Chart)
    assert [*chart.told.values()] == ["more than 20.0 nats: 5 tokens"]


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_no_chart_stands_alone_beside_an_empty_place(
    tmp_path: Path, tokenizer: Any, watched: bool, cut: bool
) -> None:
    make_run(tmp_path, tokenizer)
    if watched:
        history = [{"step": s, "watch_mismatch": 0.5, "watch_kl": 1.0} for s in (0, 4)]
        write_json(tmp_path / "warmup" / "watch.json", history)
    if cut:
        shutil.copytree(tmp_path / "distill", tmp_path / "cut")
    found = trainings(tmp_path)
    assert [one.title for one in found][cut:] == ["Warm-up", "Distillation"]
    for one in found:
        assert one.charts and (len(one.charts) + bool(one.beside)) % 2 == 0
    page, _ = report(tmp_path, tokenizer)
    ends = [number for one in found for number, _ in one.beside]
    assert ends and all(f"<dd>{number}</dd>" in page for number in ends)


def test_table_has_the_models_in_order_and_skips_those_not_evaluated(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    (tmp_path / "evaluate" / "warmup" / "problems-test.json").unlink()
    rows = table_rows(tmp_path)
    labels = ["student as it came", "distilled only", "warmed up and distilled"]
    assert [one.label for one in rows] == labels
    result = read_json(tmp_path / "evaluate" / "student" / "problems-test.json")
    assert rows[0].value("sampled") == result["sampled"]["mean"]
    assert rows[0].error("sampled") == result["sampled"]["standard_error"]
    assert rows[0].value("mismatch_share") == result["agreement"]["mismatch_share"]


def test_card_says_both_sides_and_marks_what_was_not_checked(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    prompts = {prompt.prompt_id: prompt for prompt in read_parts(tmp_path / "prompts", Prompt)}
    rollouts = {
        (one.prompt_id, one.sample_index): one for one in read_parts(tmp_path / "rollouts", Rollout)
    }
    for pair in read_parts(tmp_path / "pairs", Pair):
        source = rollouts[pair.prompt_id, pair.sample_index]
        card = make_card(pair, prompts[pair.prompt_id], source, tokenizer)
        texts = [text for text, _ in card["prefix"] + card["student"]]
        assert "".join(texts) == f"{pair.rejected}<|end|>"
        assert "".join(texts[: pair.mismatch_index]) + card["teacher"] == f"{pair.chosen}<|end|>"
        assert card["student"][0][1] == pytest.approx(source.margin, abs=1e-3)
        assert all(margin is None for _, margin in card["student"][1:])
        assert card["verdict"] in ("wrong_to_right", "right_to_right")


def test_verdict_goes_from_the_student_to_the_teacher() -> None:
    pair = Pair(
        prompt_id="p",
        sample_index=0,
        prompt_ids=[],
        chosen_ids=[],
        rejected_ids=[],
        mismatch_index=0,
        chosen_ref_logprob=0.0,
        rejected_ref_logprob=0.0,
        prompt="?",
        chosen="#### 8",
        rejected="#### 7",
    )
    assert verdict_of(pair, "8") == "wrong_to_right"
    assert verdict_of(pair, "7") == "right_to_wrong"
    assert verdict_of(pair, "6") == "wrong_to_wrong"
    assert verdict_of(pair, None) is None


class WordTokenizer:
    """Drops the space before a first word, as SentencePiece tokenizers do."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join("abc"[index] for index in ids)


def test_token_texts_keep_the_space_that_a_lone_token_would_lose() -> None:
    assert token_texts(WordTokenizer(), [0, 1, 2]) == ["a", " b", " c"]


@given(st.text())
def test_clean_removes_what_hides_or_reorders_and_nothing_else(text: str) -> None:
    cleaned = clean(text)
    assert clean(f"a\x1b\x85\u202eb\u2066\ud800{cleaned}\r") == f"ab{cleaned}"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cleaned)


def test_page_and_numbers_of_a_whole_run(tmp_path: Path, tokenizer: Any) -> None:
    make_run(tmp_path, tokenizer)
    page, numbers = report(tmp_path, tokenizer)
    assert "Yes.</b> The warm-up adds " in page
    assert "lower bound" in page
    assert len(Elements(page).named("svg")) > 7
    assert [one["model"] for one in numbers["table"]] == ["student", "warmup", "control", "distill"]
    assert numbers["did_the_warmup_help"][0]["answer"] == "yes"
    assert numbers["mismatches"]["samples"] == 24
    assert numbers["verdicts"]["right_to_wrong"] == 1
    assert numbers["pairs"]["dropped"]["truncated"] == 3


def test_all_figures_are_files_too_and_each_is_known_as_the_report_s(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    write_json(tmp_path / "warmup" / "watch.json",
               [{"step": s, "watch_mismatch": 0.5, "watch_kl": 1.0} for s in (0, 4)])  # fmt: skip
    shutil.copytree(tmp_path / "distill", tmp_path / "cut")
    named = {"name": "problems-test", "dataset": "bundled:problems", "limit": 1}
    recipe = make_recipe(evaluate={"benchmarks": [named]})
    make_report(tmp_path, recipe, tokenizer)
    names = [*FIGURES, "score-problems-test"]
    figures = {f"report/figures/{name}.{end}" for name in names for end in ("svg", "pdf", "csv")}
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("report/**/*.*")}
    assert there == {*figures, "report/index.html", "report/report.json"}
    assert {*leaves(tmp_path, "report", recipe)} == there
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == len(names)


def test_scores_stand_over_distances_with_the_interval_of_each_model(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    rows = table_rows(tmp_path)
    (chart,) = score_charts(tmp_path, rows).values()
    for row, (label, x, y, low, high) in zip(rows, chart.rows, strict=True):
        assert (label, x) == (row.label, row.reverse_kl)
        assert isinstance(y, float) and isinstance(low, float) and isinstance(high, float)
        assert y == pytest.approx(row.value("sampled"))
        # of 400 prompts, so that a standard error is a quarter of the interval, or nearly so
        assert high - low == pytest.approx(4 * (row.error("sampled") or 0), rel=0.1)


def test_page_does_not_speak_of_a_bound_where_every_margin_was_kept(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer, stopped=False)
    page, _ = report(tmp_path, tokenizer, rollouts={"stop_at_mismatch": False})
    assert "lower bound" not in page


def test_page_of_an_empty_run_says_what_is_missing(tmp_path: Path, tokenizer: Any) -> None:
    page, numbers = report(tmp_path, tokenizer, control=False)
    assert "control: true" in page
    assert "no rollouts" in page
    assert "No model was evaluated" in page
    assert "was not warmed up" in page
    assert "no preference pairs" in page
    assert numbers["mismatches"]["samples"] == 0


def test_page_of_a_student_equal_to_its_teacher_shows_no_pairs(
    tmp_path: Path, tokenizer: Any
) -> None:
    equal = [rollout([0.0] * 5, None)] * 4
    write_parts(tmp_path / "rollouts", Rollout, equal)
    write_parts(tmp_path / "pairs", Pair, [])
    counts = {"rollouts": 4, "mismatching": 0, "dropped": {"equal": 0}, "pairs": 0}
    write_json(tmp_path / "manifest.json", {"stages": {"pairs": {"counts": counts}}})
    page, numbers = report(tmp_path, tokenizer)
    assert "No sample has a mismatch" in page
    assert "no preference pairs" in page
    assert numbers["mismatches"]["mismatching"] == 0


def test_a_log_with_a_loss_that_is_not_a_number_still_draws(tmp_path: Path, tokenizer: Any) -> None:
    log = tmp_path / "warmup" / "trainer_log.jsonl"
    log.parent.mkdir()
    log.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 0.69}\n', encoding="utf-8")
    page, _ = report(tmp_path, tokenizer)
    paths = re.findall('<path d="([^"]*)"', page)
    assert paths and not any("nan" in path.lower() for path in paths)


def test_the_page_shows_what_the_warm_up_found_when_it_examined_itself(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    found = [(0, 0.8, 2.0), (4, 0.6, 1.25), (8, 0.7, 1.5)]
    history = [{"step": s, "watch_mismatch": m, "watch_kl": k} for s, m, k in found]
    write_json(tmp_path / "warmup" / "watch.json", history)
    page, _ = report(tmp_path, tokenizer)
    assert "goes from 2.000 to 1.500" in page and "from 80.0% to 70.0%" in page
    assert "It was nearest, 1.250, after step 4." in page


def test_nothing_that_data_says_becomes_an_element(tmp_path: Path, tokenizer: Any) -> None:
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    make_run(plain, tokenizer)
    extras = Extras(in_prompt=HOSTILE, in_completion=HOSTILE, in_name=HOSTILE)
    make_run(hostile, tokenizer, extras=extras)
    expected, _ = report(plain, tokenizer)
    make_report(hostile, make_recipe(extras), tokenizer)
    page = (hostile / "report" / "index.html").read_text(encoding="utf-8")
    found = Elements(page).found
    kinds = {(tag, *attributes) for tag, attributes, _ in found}
    assert kinds <= {(tag, *attributes) for tag, attributes, _ in Elements(expected).found}
    assert [tag for tag, _, _ in found].count("script") == 2
    assert not any("javascript:" in str(attributes) for _, attributes, _ in found)
    assert "\u202e" not in page
    assert "\\u202e" not in page
    assert "\x1b" not in page
    assert "{{ 7 * 7 }}" in Elements(page).named("h1")[0][2]


def test_policy_names_the_hash_of_each_inline_style_and_script(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    elements = Elements(report(tmp_path, tokenizer)[0])
    policy = next(
        attributes["content"] or ""
        for _, attributes, _ in elements.named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    inline = elements.named("style") + [
        script for script in elements.named("script") if "type" not in script[1]
    ]
    assert len(inline) == 2
    for _, _, text in inline:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_data_of_the_viewer_is_json_with_the_pairs_it_was_given(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    page, _ = report(tmp_path, tokenizer, report={"max_pairs": 3})
    (data,) = [
        text
        for _, attributes, text in Elements(page).named("script")
        if attributes.get("type") == "application/json"
    ]
    viewer = json.loads(data)
    assert len(viewer["cards"]) == 3
    assert viewer["edges"][-1] == 4.0
    assert next(iter(viewer["verdicts"])) == "wrong_to_right"
