"""Metrics against values worked by hand from the published protocols."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from warmup_distill.errors import DataError
from warmup_distill.scoring.answers import comparable, flexible_answer, is_right, strict_answer
from warmup_distill.scoring.boxed import boxed_answer
from warmup_distill.scoring.files import score_file
from warmup_distill.scoring.math_strings import between_dollars, last_boxed, same_string
from warmup_distill.scoring.metrics import METRICS, Gold
from warmup_distill.scoring.rouge import exact_match, rouge_l


def test_rouge_l_is_the_stemmed_f_measure_of_the_longest_common_subsequence() -> None:
    # LCS "the cat sat" of 3 in 4 and 3 words: P = 3/4, R = 1, F = 6/7; "cats" stems to "cat"
    assert rouge_l("the cats sat down", ["The cat sat."]) == pytest.approx(100 * 6 / 7)
    assert rouge_l("", ["word"]) == 0


def test_rouge_l_takes_the_best_reference_and_reads_only_a_to_z_and_digits() -> None:
    assert rouge_l("one two", ["three", "one two", "one"]) == 100
    # "café" is the tokens "caf"; newlines do not matter
    assert rouge_l("a\nb café", ["a b caf"]) == 100


def test_exact_match_ignores_case_punctuation_and_spaces_but_not_articles() -> None:
    assert exact_match("The  cat,\n sat!", ["the cat sat"])
    assert not exact_match("the cat sat", ["cat sat"])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2+2=4\n#### 4", "4"),
        ("#### 1,200.", "1,200."),
        ("#### -3", "-3"),
        ("#### 5\n#### 6", "5"),
        ("####5", None),
        ("it is 7", None),
        ("#### $5", None),
    ],
)
def test_strict_takes_the_first_answer_after_the_marks(text: str, answer: str | None) -> None:
    assert strict_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("12 apples and 7 pears", "7"),
        ("he pays $1,200.", "$1,200."),
        ("it is 18.00", "18.00"),
        ("nothing", None),
        ("-5", "-5"),
        ("I count 3...", "3..."),
        ("I count 3 and so on ...", "..."),
    ],
)
def test_flexible_takes_the_last_thing_like_a_number(text: str, answer: str | None) -> None:
    assert flexible_answer(text) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("18.", "18", True),
        ("$18", "18", True),
        ("1,200", "1200", True),
        ("18.00", "18", False),
        ("work\n#### 72", "72", True),
    ],
)
def test_answers_are_compared_without_commas_dollars_and_the_final_dot(
    one: str, other: str, same: bool
) -> None:
    assert (comparable(one) == comparable(other)) == same


def test_is_right_takes_numbers_and_worked_solutions() -> None:
    assert is_right("so\n#### 1200", "1,200")
    assert is_right("so\n#### 72", "48+24 = <<48+24=72>>72\n#### 72")
    assert not is_right("the answer is 72", "72")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{18}.", "18"),
        ("\\boxed{1}, no: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{18\\text{ dollars}}", "18"),
        ("\\boxed{\\$1,000}", "1,000"),
        ("\\boxed{x^{2}", "x^{2}"),  # never closed: as far as it goes
        ("$\\boxed 7$ it is", "7"),
        ("The answer is 5. Then the answer is: 12.", "12"),
        ("Final Answer: The final answer is $\\frac12$. I hope it is correct.", "\\frac{1}{2}"),
        ("first 3, then 1,234.5 apples", "1234.5"),
        ("no number", None),
    ],
)
def test_the_boxed_answer_is_read_in_order_of_places(text: str, answer: str | None) -> None:
    assert boxed_answer(text) == answer


@pytest.mark.parametrize(
    ("output", "gold", "right"),
    [
        ("\\boxed{18}", "18", True),
        ("\\boxed{18.0}", "18", True),
        ("\\boxed{1,000}", "1000", True),
        ("\\boxed{0.18}", "18", True),  # a percentage: a factor of 100 either way
        ("\\boxed{18.001}", "18", True),  # within a relative 1e-4
        ("\\boxed{18.1}", "18", False),
        ("\\boxed{(1, 2)}", "(1,2)", True),
        ("\\boxed{(1, 3)}", "(1,2)", False),
        ("\\boxed{x = 5}", "5", True),
        ("\\boxed{\\frac{2}{4}}", "\\frac{1}{2}", True),
        ("\\boxed{2\\sqrt{3}}", "\\sqrt{12}", True),
        ("nothing", "18", False),
        ("\\boxed{18}", "work\n#### 18", True),
    ],
)
def test_boxed_answers_are_compared_as_text_numbers_tuples_and_formulas(
    output: str, gold: str, right: bool
) -> None:
    assert METRICS["boxed"](output, Gold(answer=gold)).value == 100 * right


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("\\dfrac{1}{2}", "\\frac12", True),
        ("0.5", "1/2", True),
        (".5", "\\frac{1}{2}", True),
        ("\\sqrt3", "\\sqrt{3}", True),
        ("x=5", "5", True),
        ("abc=5", "5", False),
        ("5\\text{ cm}", "5", True),
        ("10\\%", "10", True),
        ("90^\\circ", "90", True),
        ("\\left( 1, 2 \\right)", "(1,2)", True),
        ("\\$5", "5", True),
        ("1,000", "1000", False),
        ("\\sqrt{12}", "2\\sqrt{3}", False),
        ("\\text{Evelyn}", "Evelyn", False),
        ("18.90", "18.9", False),
        ("x/2", "x/2", True),  # malformed for the rule: compared as it stands
        ("x/ 2", "x/2", False),  # and so spaces count
        ("\\frac", "\\frac", True),
    ],
)
def test_strings_of_mathematics_are_equal_after_hendrycks_rules(
    one: str, other: str, same: bool
) -> None:
    assert same_string(one, other) is same


def test_the_answer_of_an_output_stands_between_its_first_and_last_dollar() -> None:
    assert between_dollars("so $x$ is $5$.") == "x$ is $5"
    assert between_dollars("costs $5") == "costs $5"
    assert last_boxed("\\boxed{1} and \\fbox{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert last_boxed("\\boxed 7$") == "7"
    assert last_boxed("none") is None


@pytest.mark.parametrize(
    ("output", "gold", "right"),
    [
        ("It is $\\frac{1}{2}$.", Gold(answer="0.5"), True),
        ("It is \\boxed{1,000}.", Gold(answer="1000"), True),
        ("It is $2\\sqrt{3}$", Gold(answer="\\sqrt{12}"), True),
        ("It is Evelyn: $\\text{Evelyn}$", Gold(answer="\\text{Evelyn}"), True),
        ("It is $3$", Gold(references=["so $x = \\boxed{4}$"]), False),
        ("It is $4$", Gold(references=["so $x = \\boxed{4}$"]), True),
        ("", Gold(answer="4"), False),
    ],
)
def test_math_verify_compares_what_formulas_mean(output: str, gold: Gold, right: bool) -> None:
    assert METRICS["math_verify"](output, gold).value == 100 * right


def test_math_verify_works_outside_the_main_thread() -> None:
    found = []
    thread = threading.Thread(
        target=lambda: found.append(METRICS["math_verify"]("$4$", Gold(answer="4")).value)
    )
    thread.start()
    thread.join()
    assert found == [100]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_s_rows_are_scored_one_by_one(tmp_path: Path) -> None:
    file = write(
        tmp_path / "made.jsonl",
        [
            {"id": "a", "prediction": "so\n#### 1,200", "answer": "1200"},
            {"id": 7, "prediction": "so\n#### 3", "reference": "2+2=4\n#### 4"},
            {"prediction": "no idea", "answer": 4},
        ],
    )
    found = [(row.id, row.value, row.extracted) for row in score_file(file, "gsm8k_strict")]
    assert found == [("a", 100, "1,200"), ("7", 0, "3"), ("made-000003", 0, None)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"reference": "a"}, "expected a column `prediction`"),
        ({"prediction": "a"}, "expected `reference`, `references` or `answer`"),
        ({"prediction": ["a"], "reference": "a"}, "expected text in `prediction`"),
        ({"prediction": "a", "references": "a"}, "expected a list of texts"),
        ("text", "expected an object with named columns"),
    ],
)
def test_a_row_of_another_form_is_named(row: Any, message: str, tmp_path: Path) -> None:
    good = {"prediction": "a", "reference": "a"}
    file = write(tmp_path / "made.jsonl", [good, row])
    with pytest.raises(DataError, match=message) as error:
        list(score_file(file, "rouge_l"))
    assert f"{file}:2" in str(error.value)


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected rows in"):
        list(score_file(write(tmp_path / "made.jsonl", []), "rouge_l"))
