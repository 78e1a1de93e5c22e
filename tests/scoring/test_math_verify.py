"""math-verify: what formulas mean, in a process that can be stopped."""

import threading

import pytest

from warmup_distill.scoring import verifying
from warmup_distill.scoring.metrics import METRICS, Gold


def scored(output: str, answer: str) -> float:
    return METRICS["math_verify"](output, Gold(answer=answer)).value


@pytest.mark.parametrize(
    ("output", "gold", "right"),
    [
        ("It is $\\frac{1}{2}$.", Gold(answer="0.5"), True),
        ("It is \\boxed{1,000}.", Gold(answer="1000"), True),
        ("It is $2\\sqrt{3}$", Gold(answer="\\sqrt{12}"), True),
        ("It is Evelyn: $\\text{Evelyn}$", Gold(answer="\\text{Evelyn}"), True),
        ("It is $3$", Gold(references=["so $x = \\boxed{4}$"]), False),
        ("It is $4$", Gold(references=["so $x = \\boxed{4}$"]), True),
        ("It is $4$", Gold(answer="\n4\n"), True),
        ("", Gold(answer="4"), False),
    ],
)
def test_it_compares_what_formulas_mean(output: str, gold: Gold, right: bool) -> None:
    assert METRICS["math_verify"](output, gold).value == 100 * right


@pytest.mark.parametrize("written", ["10\\,000", "10\\ 000", "10{,}000", "10~000", "10,\\!000"])
def test_spaces_between_thousands_are_no_products(written: str) -> None:
    assert scored(f"\\boxed{{{written}}}", "10000") == 100
    assert scored("$10000$", written) == 100


@pytest.mark.parametrize(
    ("output", "answer", "right"),
    [
        ("$\\frac{1}{2006!}$", "\\frac{1}{2004!}", False),
        ("$\\frac{1}{2006!}$", "0", False),
        ("$\\frac{1}{2006!}$", "\\frac{1}{2006!}", True),
        ("$\\frac{x}{2006!}$", "\\frac{x}{2004!}", False),
        ("$(10^{-20}, 1)$", "(10^{-21}, 1)", False),
        ("$0.0000001$", "0.0000002", False),
        ("$0.333333$", "\\frac{1}{3}", True),
        ("$50\\%$", "50", True),
        ("$x + 1$", "1 + x", True),
    ],
)
def test_small_numbers_are_not_rounded_to_the_same_one(
    output: str, answer: str, right: bool
) -> None:
    assert scored(output, answer) == 100 * right


def test_what_has_no_end_is_stopped_and_the_next_comparison_is_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verifying, "SECONDS", 1)
    # A power of more digits than any memory holds, computed in C, where no signal is heard.
    assert scored("$9^{9^{9^9}}$", "3") == 0
    assert "it counts as wrong" in caplog.text
    monkeypatch.undo()
    assert scored("$4$", "4") == 100


def test_an_interruption_leaves_no_answer_for_the_next_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    assert scored("$4$", "4") == 100
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(verifying.json, "loads", interrupted)
        scored("$4$", "4")
    assert scored("$5$", "4") == 0


def test_it_works_outside_the_main_thread_and_in_many() -> None:
    found = {}
    numbers = range(8)

    def compare(number: int) -> None:
        found[number] = scored(f"${number}$", str(number % 4))

    threads = [threading.Thread(target=compare, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in numbers] == [100] * 4 + [0] * 4
