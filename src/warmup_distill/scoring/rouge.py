"""Rouge-L and exact match as the papers of the field quote them.

Source: MiniLLM's `rouge_metric.py` (arXiv:2306.08543), which DSKD and DistiLLM use unchanged.
"""

import string
from collections.abc import Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """The best Rouge-L F-measure over the references, stemmed, 0 to 100.

    It reads only the letters a to z and digits: a text in another script scores 0.
    """
    scores = (_scorer().score(reference, prediction)["rougeL"] for reference in references)
    return 100 * max(float(score.fmeasure) for score in scores)


def exact_match(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction is one of the references but for case, punctuation and spaces."""
    return _plain(prediction) in map(_plain, references)


def _plain(text: str) -> str:
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)
