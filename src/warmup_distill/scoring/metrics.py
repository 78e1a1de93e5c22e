"""The metrics by name: a prediction and what is known of the right answer → 0 to 100."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmup_distill.errors import DataError
from warmup_distill.scoring.answers import comparable, flexible_answer, strict_answer
from warmup_distill.scoring.boxed import bare, boxed_answer, boxed_list
from warmup_distill.scoring.math_strings import between_dollars, last_boxed, same_string
from warmup_distill.scoring.mathematics.equality import same_answer
from warmup_distill.scoring.qwen import qwen_answer, same_by_qwen, tidy
from warmup_distill.scoring.rouge import exact_match, rouge_l
from warmup_distill.scoring.verifying import verified_output


@dataclass(frozen=True, kw_only=True)
class Gold:
    """What is known of the right answer of one row."""

    references: Sequence[str] = ()
    """Good completions; a worked solution for mathematics."""
    answer: str | None = None
    """The final answer alone, or a text that ends in `#### answer`."""

    def texts(self) -> Sequence[str]:
        """What a text is compared with."""
        return self.references or [self.final()]

    def final(self) -> str:
        """What a final answer is compared with."""
        if self.answer is not None:
            return self.answer
        if not self.references:
            raise DataError("expected a reference or an answer, but there is none.")
        return self.references[0]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The score of one prediction."""

    value: float
    """0 or 100 for metrics of equality, 0 to 100 for Rouge-L."""
    extracted: str | None = None
    """What was read out of the prediction; None where nothing was, or nothing is."""


def _gsm8k(extract: Callable[[str], str | None]) -> Callable[[str, Gold], Scored]:
    def score(prediction: str, gold: Gold) -> Scored:
        found = extract(prediction)
        right = found is not None and comparable(found) == comparable(gold.final().strip())
        return Scored(value=100.0 * right, extracted=found)

    return score


def _boxed(prediction: str, gold: Gold) -> Scored:
    found = boxed_answer(prediction)
    expected = bare(_alone(gold.final()))
    if found is not None and same_answer(found, expected):
        return Scored(value=100.0, extracted=found)
    listed = boxed_list(prediction)
    if listed is not None and same_answer(listed, expected):
        return Scored(value=100.0, extracted=listed)
    return Scored(value=0.0, extracted=found)


def _boxed_qwen(prediction: str, gold: Gold) -> Scored:
    found = qwen_answer(prediction)
    right = found is not None and same_by_qwen(found, tidy(_alone(gold.final())))
    return Scored(value=100.0 * right, extracted=found)


def _alone(answer: str) -> str:
    """A final answer out of a worked solution that boxes it or ends in `#### answer`."""
    return last_boxed(answer) or strict_answer(answer) or answer


def _math_string(prediction: str, gold: Gold) -> Scored:
    found = between_dollars(prediction)
    return Scored(value=100.0 * same_string(found, _alone(gold.final())), extracted=found)


def _math_verify(prediction: str, gold: Gold) -> Scored:
    solution = gold.references[0] if gold.references else None
    answer = None if gold.answer is None else _alone(gold.answer)
    right, found = verified_output(prediction, answer, solution)
    return Scored(value=100.0 * right, extracted=found or None)


METRICS: dict[str, Callable[[str, Gold], Scored]] = {
    "rouge_l": lambda text, gold: Scored(value=rouge_l(text, gold.texts())),
    "exact_match": lambda text, gold: Scored(value=100.0 * exact_match(text, gold.texts())),
    "gsm8k_strict": _gsm8k(strict_answer),
    "gsm8k_flexible": _gsm8k(flexible_answer),
    "boxed": _boxed,
    "boxed_qwen": _boxed_qwen,
    "math_verify": _math_verify,
    "math_string": _math_string,
}
"""Name on the command line to function."""
