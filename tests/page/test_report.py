"""The report: its numbers are right, and nothing that a model wrote can act on the page."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_run import Extras, make_recipe, make_run, make_tokenizer

from warmup_distill.page import charts, words
from warmup_distill.page.cards import make_card, token_texts, verdict_of
from warmup_distill.page.mismatches import survey_rollouts
from warmup_distill.page.table import Score, TableRow, findings, table_rows
from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.stages.report import make_report
from warmup_distill.store.artifacts import read_json, read_parts, write_json, write_parts

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


def row(model: str, mean: float, error: float) -> TableRow:
    return TableRow(
        benchmark="b",
        metric="accuracy",
        prompts=100,
        model=model,
        label=model,
        greedy=None,
        sampled=Score(mean=mean, standard_error=error),
        mismatch_share=None,
        mean_margin=None,
        forward_kl=None,
        reverse_kl=None,
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
    assert sum(survey.margin_histogram.counts) == sum(map(len, all_margins))
    assert sum(survey.index_histogram.counts) == survey.mismatching
    assert shares == sorted(shares, reverse=True)
    assert math.isclose(dict(survey.curve)[threshold], survey.mismatching / survey.samples)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_axis_puts_its_ticks_inside_and_in_order(low: float, span: float) -> None:
    axis = charts.Axis(label="x", low=low, high=low + span, start=70, end=500)
    positions = [at for at, _ in axis.ticks]
    assert positions == sorted(positions)
    assert all(70 <= at <= 500 for at in positions)
    assert (axis.at(low), axis.at(low + span)) == (70, 500)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(-5, 5)), min_size=1, max_size=50))
def test_thin_keeps_few_points_and_the_mean(points: list[tuple[float, float]]) -> None:
    few = charts.thin(points, limit=7)
    assert len(few) <= 7
    assert min(y for _, y in points) - 1e-9 <= min(y for _, y in few)
    assert charts.thin(points, limit=50) == points


def test_bars_stand_on_the_base_and_a_single_count_shows_on_a_logarithmic_scale() -> None:
    chart = charts.bar_chart(
        charts.Histogram(start=0, width=1, counts=[1, 0, 1000]),
        title="t",
        summary="s",
        x_label="x",
        y_label="y",
        describe=lambda low, high, count: f"{low} {high} {count}",
        mark=(2.0, "two"),
        log=True,
    )
    assert [bar.label for bar in chart.bars] == ["0 1 1", "2 3 1000"]
    assert [bar.strong for bar in chart.bars] == [False, True]
    assert all(math.isclose(bar.y + bar.height, charts.BOTTOM) for bar in chart.bars)
    assert chart.bars[0].height > 5


def test_finding_compares_with_twice_the_error_of_the_difference() -> None:
    # standard errors 3 and 4 make 5 together, so a difference must exceed 10
    (clear,) = findings([row("control", 40, 3), row("distill", 50.5, 4)])
    (close,) = findings([row("control", 40, 3), row("distill", 49.5, 4)])
    (worse,) = findings([row("control", 40, 3), row("distill", 29.0, 4)])
    assert (clear.answer, clear.difference, clear.standard_error) == ("yes", 10.5, 5.0)
    assert close.answer == "no clear difference"
    assert worse.answer == "no, it hurt"
    assert findings([row("distill", 50, 1)]) == []


def test_table_has_the_models_in_order_and_skips_those_not_evaluated(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    (tmp_path / "evaluate" / "warmup" / "problems-test.json").unlink()
    rows = table_rows(tmp_path)
    labels = ["student as it came", "distilled only", "warmed up and distilled"]
    assert [one.label for one in rows] == labels
    assert rows[0].sampled == Score(mean=28.9, standard_error=1.4)
    assert rows[0].mismatch_share == 0.70


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
    cleaned = words.clean(text)
    assert words.clean(f"a\x1b\x85\u202eb\u2066\ud800{cleaned}\r") == f"ab{cleaned}"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cleaned)


def test_page_and_numbers_of_a_whole_run(tmp_path: Path, tokenizer: Any) -> None:
    make_run(tmp_path, tokenizer)
    page, numbers = report(tmp_path, tokenizer)
    assert "Yes: sampled at temperature 1" in page
    assert "+7.9</b> points exceeds twice its standard error of 2.2" in page
    assert "lower bound" in page
    assert len(Elements(page).named("svg")) > 7
    assert [one["model"] for one in numbers["table"]] == ["student", "warmup", "control", "distill"]
    assert numbers["did_the_warmup_help"][0]["answer"] == "yes"
    assert numbers["mismatches"]["samples"] == 24
    assert numbers["verdicts"]["right_to_wrong"] == 1
    assert numbers["pairs"]["dropped"]["truncated"] == 3


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
    assert "nan" not in page.lower().split("<path")[1].split(">")[0]


def test_the_page_shows_what_the_warm_up_found_when_it_examined_itself(
    tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path, tokenizer)
    found = [(0, 0.8, 2.0), (4, 0.6, 1.25), (8, 0.7, 1.5)]
    history = [{"step": s, "watch_mismatch": m, "watch_kl": k} for s, m, k in found]
    write_json(tmp_path / "warmup" / "watch.json", history)
    page, _ = report(tmp_path, tokenizer)
    assert "goes from 2.00 to 1.50" in page and "from 80% to 70%" in page
    assert "It was nearest, 1.25, after step 4." in page


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
