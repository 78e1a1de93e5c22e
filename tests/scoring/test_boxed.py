"""The boxed answer: where it is read, and the comparison that we quote beside the published one."""

import pytest

from warmup_distill.scoring import verifying
from warmup_distill.scoring.boxed import boxed_answer
from warmup_distill.scoring.metrics import METRICS, Gold
from warmup_distill.scoring.qwen import qwen_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{18}.", "18"),
        ("\\boxed{1}, no: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{18\\text{ dollars}}", "18\\text{ dollars}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{x^{2}", "x^{2}"),  # never closed: as far as it goes
        ("$\\boxed 7$ it is", "7"),
        ("\\fbox{5}", "5"),
        ("boxed{5}", "5"),
        ("I boxed the answer, which is 5", "5"),
        ("The answer is 5. Then the answer is: 12.", "12"),
        ("The answer is 5. For 2 + 3 = 5 and no other.", "5"),
        ("The answer is \\[ 5 \\]", "5"),
        ("The answer is\n\\[\n5\n\\]\n", "5"),
        ("the answer is $$5$$, as 4 is too small", "5"),
        ("the answer is $4$, $5$ and $6$.", "4, 5 and 6"),
        ("The Answer is \\( x = 5 \\).", "x = 5"),
        ("The answer is $x=1$ or $x=2$.", "x=1 or x=2"),
        ("The answer is **12**.", "12"),
        ("The answer is $1,200.", "$1,200"),
        ("The answer is 5!", "5"),
        ("Final Answer: The final answer is $\\frac12$. I hope it is correct.", "\\frac12"),
        ("first 3, then 1,234.5 apples", "1,234.5"),
        ("the roots are 1,2", "2"),
        ("so it is 1/2", "1/2"),
        ("so 40% of them", "40%"),
        ("pages 3-4", "4"),
        ("so $x = \\frac{1}{2}$ it is", "\\frac{1}{2}"),
        ("It costs $5 and $6", "6"),
        ("The answer is <<4+4=8>>8.", "8"),
        ("no number", None),
        ("", None),
    ],
)
def test_the_answer_is_read_in_order_of_places_and_left_whole(
    text: str, answer: str | None
) -> None:
    found = boxed_answer(text)
    assert (found.strip() if found else found) == answer


def scored(metric: str, output: str, gold: str) -> float:
    return METRICS[metric](output, Gold(answer=gold)).value


@pytest.mark.parametrize(
    ("output", "gold", "ours", "published"),
    [
        # One by one what the published comparison deletes or lets pass, and what it does not see.
        ("\\boxed{12}", "1,2", False, True),
        ("\\boxed{\\frac{12}{3}}", "\\frac{1}{23}", False, True),
        ("\\boxed{10}", "1000", False, True),
        ("\\boxed{0.18}", "18", False, True),
        ("\\boxed{18.001}", "18", False, True),
        ("\\boxed{(1, 2)}", "[1,2]", False, True),
        ("\\boxed{3,2,1}", "1,2,3", True, False),
        ("\\boxed{2x+3=y}", "y=2x+3", True, False),
        ("\\boxed{5\\,\\text{cm}^2}", "5", True, False),
        ("The answer is \\[ 5 \\]", "5", True, False),
        ("\\boxed{50\\%}", "\\frac{1}{2}", True, False),
        # What both know.
        ("\\boxed{18}", "18", True, True),
        ("\\boxed{18.0}", "18", True, True),
        ("\\boxed{1,000}", "1000", True, True),
        ("\\boxed{60\\%}", "60", True, True),
        ("\\boxed{18.1}", "18", False, False),
        ("\\boxed{(1, 2)}", "(1,2)", True, True),
        ("\\boxed{(1, 3)}", "(1,2)", False, False),
        ("\\boxed{x = 5}", "5", True, True),
        ("\\boxed{\\frac{2}{4}}", "\\frac{1}{2}", True, True),
        ("\\boxed{2\\sqrt{3}}", "\\sqrt{12}", True, True),
        ("\\boxed{18\\text{ dollars}}", "18", True, True),
        ("nothing", "18", False, False),
        ("\\boxed{}", "18", False, False),
        ("\\boxed{18}", "work\n#### 18", True, True),
        ("\\boxed{18}", "so it is $\\boxed{18}$ apples", True, True),
    ],
)
def test_boxed_is_right_and_boxed_qwen_is_as_published(
    output: str, gold: str, ours: bool, published: bool
) -> None:
    assert scored("boxed", output, gold) == 100 * ours
    assert scored("boxed_qwen", output, gold) == 100 * published


def test_boxes_in_a_row_are_a_list_where_a_list_is_expected_and_else_the_last_counts() -> None:
    output = "So $x = \\boxed{1}$ or $x = \\boxed{2}$."
    assert scored("boxed", output, "1, 2") == scored("boxed", output, "2") == 100
    assert scored("boxed", output, "1") == 0
    assert scored("boxed", "\\boxed{1} is too small. Next: \\boxed{2}", "1, 2") == 0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{18}.", "18"),
        ("\\boxed{1}, no: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{18\\text{ dollars}}", "18"),
        ("\\boxed{\\$1,000}", "1,000"),
        ("\\boxed{x^{2}", "x^{2}"),
        ("$\\boxed 7$ it is", "7"),
        ("The answer is 5. Then the answer is: 12.", "12"),
        ("Final Answer: The final answer is $\\frac12$. I hope it is correct.", "\\frac{1}{2}"),
        ("first 3, then 1,234.5 apples", "1234.5"),
        ("no number", None),
    ],
)
def test_the_published_reading_normalises_what_it_reads(text: str, answer: str | None) -> None:
    assert qwen_answer(text) == answer


@pytest.mark.parametrize("metric", ["boxed", "boxed_qwen"])
@pytest.mark.parametrize(
    "part",
    ["\\boxed{", "answer is ", "$", "\\[ a ", "final answer is $", "(", "1,", "9", "\n", "{"],
)
def test_long_outputs_take_time_that_grows_with_them_alone(metric: str, part: str) -> None:
    METRICS[metric](part * 30_000, Gold(answer="5"))


@pytest.mark.parametrize("metric", ["boxed", "boxed_qwen"])
def test_brackets_of_3000_levels_are_an_answer_like_any_other(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "SECONDS", 1)  # math-verify, which is asked last, finds no end
    deep = "(" * 3000 + "5" + ")" * 3000
    assert scored(metric, f"\\boxed{{{deep}}}", deep) == 100
    assert scored(metric, f"\\boxed{{{deep}}}", "7") == 0
