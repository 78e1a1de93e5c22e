"""Answers of GSM8K and strings of MATH against the rules of lm-evaluation-harness, by hand."""

import pytest

from warmup_distill.scoring.answers import comparable, flexible_answer, is_right, strict_answer
from warmup_distill.scoring.math_strings import between_dollars, last_boxed, same_string


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


def test_answers_of_400000_characters_are_read_in_one_pass() -> None:
    # A search that begins again at every character would take 80 billion steps.
    long = "1+1=2, " * 60_000
    assert is_right(f"{long}\n#### 7", f"{long}\n#### 7")
    assert not is_right("#### 7", long)
    assert comparable(f"#### {long}#### 7.") == "7"
    assert flexible_answer(long) == "2,"
