"""Whether the warm-up helped: warmed up and distilled against distilled only, and one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from warmup_distill.page.contrasts import Contrast, contrasts, read_sums
from warmup_distill.page.table import TableRow
from warmup_distill.page.words import MINUS, count, enumeration

Answer = Literal["yes", "in part", "no clear difference", "no, it hurt", "not known"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a benchmark says of the warm-up."""

    benchmark: str
    contrasts: Sequence[Contrast]
    """Warmed up and distilled minus distilled only."""

    @property
    def answer(self) -> Answer:
        """Whether it helped, in a few words."""
        verdicts = {contrast.verdict for contrast in self.contrasts}
        if verdicts == {"unknown"}:
            return "not known"
        if {"better", "worse"} <= verdicts:
            return "in part"
        if "worse" in verdicts:
            return "no, it hurt"
        return "yes" if "better" in verdicts else "no clear difference"

    @property
    def sentence(self) -> str:
        """What follows from all the intervals."""
        if self.answer == "not known":
            return _unpaired(self.contrasts)
        scores = [one for one in self.contrasts if one.measure.is_score]
        distances = [one for one in self.contrasts if not one.measure.is_score]
        said = f"The warm-up {_of_scores(scores)}"
        if asked := _prompts(scores):
            said += f", over {count(asked)} prompts that both students answered"
        if distances:
            checked = _prompts(distances)
            where = f"over {count(checked)} of them " if checked and checked != asked else ""
            said += f"; {where}{_of_distances(distances)}"
        return f"{said}."

    @property
    def headline(self) -> str:
        """The answer and the sentence."""
        return f"{self.answer[0].upper()}{self.answer[1:]}. {self.sentence}"

    def numbers(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "benchmark": self.benchmark,
            "answer": self.answer,
            "sentence": self.sentence,
            "differences": [_numbers(one) for one in self.contrasts],
        }


def findings(folder: Path, rows: Sequence[TableRow]) -> list[Finding]:
    """One for each benchmark on which both distilled students were evaluated."""
    ours, theirs = (
        {row.benchmark: row for row in rows if row.model == model}
        for model in ("distill", "control")
    )
    our, their = read_sums(folder, "distill"), read_sums(folder, "control")
    return [
        Finding(
            benchmark=name,
            contrasts=[
                *contrasts(ours[name], theirs[name], our.get(name, {}), their.get(name, {}))
            ],
        )
        for name in ours
        if name in theirs
    ]


def _prompts(some: Sequence[Contrast]) -> int | None:
    return next((one.paired.prompts for one in some if one.paired), None)


def _unpaired(contrasts: Sequence[Contrast]) -> str:
    moved = [
        f"{one.measure.phrase} by {one.measure.show_change(one.change)} points"
        for one in contrasts
        if one.measure.is_score
    ]
    return (
        "The pairing is not known: this run keeps no values of single prompts, so its differences "
        f"have no intervals. By the means alone the warm-up moves {enumeration(moved)}."
    )


_DOES = {
    "better": ("adds", "{size} points to {name} ({interval})"),
    "worse": ("takes", "{size} points off {name} ({interval})"),
    "unclear": ("makes no clear difference to", "{name} ({change}, {interval})"),
    "unknown": ("moves", "{name} by {change} points (pairing not known)"),
}


def _of_scores(scores: Sequence[Contrast]) -> str:
    parts = []
    for verdict, (verb, what) in _DOES.items():
        said = [
            what.format(
                name=one.measure.phrase,
                change=(change := one.measure.show_change(one.change)),
                size=change.lstrip(f"+{MINUS}"),
                interval=one.interval,
            )
            for one in scores
            if one.verdict == verdict
        ]
        if said:
            parts.append(f"{verb} {enumeration(said)}")
    return enumeration(parts)


_WHERE = {
    "better": ("nearer to its teacher by", "all"),
    "worse": ("further from its teacher by", "all"),
    "unclear": ("neither clearly nearer to its teacher nor further from it by", "any of"),
}


def _of_distances(distances: Sequence[Contrast]) -> str:
    parts = []
    for verdict, (where, every) in _WHERE.items():
        names = [one.measure.phrase for one in distances if one.verdict == verdict]
        alike = len(names) == len(distances)
        by = f"{every} {len(names)} distances" if alike else enumeration(names)
        parts += [f"{where} {by}"] if names else []
    if not parts:
        return "the pairing of the distances from the teacher is not known"
    return f"the student is {enumeration(parts)}"


def _numbers(contrast: Contrast) -> dict[str, Any]:
    paired = contrast.paired
    return {
        "measure": contrast.measure.key,
        "with_warmup": contrast.ours,
        "without": contrast.theirs,
        "difference": contrast.change,
        "low": paired and paired.low,
        "high": paired and paired.high,
        "prompts": paired and paired.prompts,
        "verdict": contrast.verdict,
    }
