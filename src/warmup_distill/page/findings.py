"""Whether the warm-up helped: warmed up and distilled against each control, and one sentence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from warmup_distill.page.contrasts import Contrast, contrasts, read_sums
from warmup_distill.page.table import TableRow
from warmup_distill.page.words import MINUS, count, decimal, enumeration

AGAINST = {
    "control": "",
    "control_compute": "Against distilling for longer, at the same cost: the",
    "control_cold_start": "Against a cold start at the same cost: the",
    "control_corrected": "Against distilling on corrected completions: the",
}
"""The models that the one warmed up and distilled is held against, and how a sentence begins."""

Answer = Literal["yes", "in part", "no clear difference", "no, it hurt", "not known"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a benchmark says of the warm-up."""

    benchmark: str
    against: str = "control"
    """One of `AGAINST`."""
    contrasts: Sequence[Contrast]
    """Warmed up and distilled minus that."""

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
            return self._begun(_unpaired(self.contrasts))
        scores = [one for one in self.contrasts if one.measure.is_score]
        distances = [one for one in self.contrasts if not one.measure.is_score]
        said = self._begun(f"The warm-up {_of_scores(scores)}")
        if asked := _prompts(scores):
            whose = (
                "that both students answered" if self.is_paired else "of each, not the same ones"
            )
            said += f", over {count(asked)} prompts {whose}"
        if distances:
            checked = _prompts(distances)
            where = f"over {count(checked)} of them " if checked and checked != asked else ""
            said += f"; {where}{_of_distances(distances)}"
        return f"{said}.{_to_tell(self.contrasts)}"

    def _begun(self, said: str) -> str:
        start = AGAINST[self.against]
        return start + said.removeprefix("The") if start else said

    @property
    def is_first(self) -> bool:
        """Whether it is against the same distillation without the warm-up."""
        return self.against == "control"

    @property
    def is_paired(self) -> bool:
        """Whether both students answered the same prompts."""
        return all(one.effect.is_paired for one in self.contrasts if one.effect)

    @property
    def sources(self) -> str:
        """What the error of the sampled score comes from, where there are several samples."""
        for one in self.contrasts:
            if one.effect and one.effect.errors.decoding is not None and one.measure.is_score:
                drawn, prompts = one.effect.errors.decoding, one.effect.errors.prompts
                return (
                    f"Drawing other samples moves {one.measure.phrase}'s difference by "
                    f"\N{PLUS-MINUS SIGN}{decimal(drawn, 2)} points, other prompts move it by "
                    f"\N{PLUS-MINUS SIGN}{decimal(prompts, 2)} (standard errors)."
                )
        return ""

    @property
    def headline(self) -> str:
        """The answer and the sentence."""
        return f"{self.answer[0].upper()}{self.answer[1:]}. {self.sentence}"

    def numbers(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "benchmark": self.benchmark,
            "against": self.against,
            "answer": self.answer,
            "sentence": self.sentence,
            "differences": [_numbers(one) for one in self.contrasts],
        }


def findings(folder: Path, rows: Sequence[TableRow]) -> list[Finding]:
    """One for each benchmark and each control on which both distilled students were evaluated."""
    known = {(row.benchmark, row.model): row for row in rows}
    sums = {row.model: read_sums(folder, row.model) for row in rows}
    return [
        Finding(
            benchmark=name,
            against=model,
            contrasts=[
                *contrasts(
                    known[name, "distill"], known[name, model],
                    sums["distill"].get(name, {}), sums[model].get(name, {}),
                )
            ],
        )
        for name in dict.fromkeys(row.benchmark for row in rows)
        for model in AGAINST
        if {(name, "distill"), (name, model)} <= known.keys()
    ]  # fmt: skip


def _prompts(some: Sequence[Contrast]) -> int | None:
    return next((one.effect.prompts for one in some if one.effect), None)


def _to_tell(contrasts: Sequence[Contrast]) -> str:
    """What it would take to settle what is unclear."""
    needed: dict[str, list[str]] = {}
    for one in contrasts:
        if one.to_tell:
            needed.setdefault(one.to_tell, []).append(one.measure.phrase)
    if not needed:
        return ""
    parts = [f"{what} for {enumeration(names)}" for what, names in needed.items()]
    return (
        f" What is not clear would take {enumeration(parts)} to settle, if the differences stay "
        "what they are."
    )


def _unpaired(contrasts: Sequence[Contrast]) -> str:
    moved = [
        f"{one.measure.phrase} by {one.measure.show_change(one.change)} points"
        for one in contrasts
        if one.measure.is_score
    ]
    return (
        f"The warm-up moves {enumeration(moved)} by the means alone: this run keeps no values of "
        "single prompts, so the pairing is not known and differences have no intervals."
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
    effect = contrast.effect
    return {
        "measure": contrast.measure.key,
        "with_warmup": contrast.ours,
        "without": contrast.theirs,
        "difference": contrast.change,
        "low": effect and effect.low,
        "high": effect and effect.high,
        "prompts": effect and effect.prompts,
        "paired": effect and effect.is_paired,
        "standard_errors": effect and asdict(effect.errors),
        "verdict": contrast.verdict,
        "to_tell": contrast.to_tell,
    }
