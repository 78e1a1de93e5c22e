"""Rouge-L as the papers of the field quote it: F-measure, stemmed, by `rouge-score`.

It reads only the letters a to z and digits: a text in another script scores 0.
"""

from functools import cache

from rouge_score.rouge_scorer import RougeScorer


def rouge_l(prediction: str, reference: str) -> float:
    """Rouge-L F-measure of a prediction, 0 to 100."""
    return 100 * float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


@cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)
