"""What a setting of a study comes to over its seeds: scores with intervals, and differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmup_distill.page.contrasts import Sums, Verdict, read_sums, verdict_of
from warmup_distill.page.findings import AGAINST
from warmup_distill.page.measures import MEASURES, Measure
from warmup_distill.page.table import MODELS, TableRow, metric_words, table_rows
from warmup_distill.scoring.intervals import Interval, difference, interval
from warmup_distill.store.manifest import is_complete
from warmup_distill.studies.results import entries_of
from warmup_distill.studies.settings import Run

JUDGED = tuple(one for one in MEASURES if one.key in ("greedy", "sampled", "reverse_kl"))
"""What a study says of each model; `scores.csv` has the rest."""

Setting = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model of a setting on one benchmark, over its seeds."""

    model: str
    operations: float | None
    """Those of all that went into it, in the mean over the seeds."""
    values: Mapping[str, Interval]
    """By the key of a measure."""

    @property
    def label(self) -> str:
        """What the model is, in words."""
        return MODELS[self.model]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The model that was warmed up and distilled minus a control, by one measure."""

    against: str
    measure: Measure
    effect: Interval

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        return verdict_of(self.effect, self.measure)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One setting on one benchmark."""

    setting: Setting
    benchmark: str
    metric: str
    """What its scores are, in words."""
    seeds: Sequence[int]
    standings: Sequence[Standing]
    differences: Sequence[Difference]


class Summaries:
    """Outcomes of settings, each worked out again only when one more of its runs was evaluated."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], list[Outcome]] = {}

    def of(self, runs: Sequence[tuple[Run, Path]]) -> list[Outcome]:
        """Those of one setting, of which some runs may not be evaluated yet."""
        some = [one for one in runs if is_complete(entries_of(one[1]), "evaluate")]
        if not some:
            return []
        names = tuple(run.name for run, _ in some)
        if names not in self._known:
            self._known[names] = [*_outcomes(some)]
        return self._known[names]


def _outcomes(runs: Sequence[tuple[Run, Path]]) -> Iterator[Outcome]:
    tables = [table_rows(folder) for _, folder in runs]
    for benchmark in dict.fromkeys(row.benchmark for table in tables for row in table):
        rows = [{row.model: row for row in table if row.benchmark == benchmark} for table in tables]
        models = [model for model in MODELS if all(model in some for some in rows)]
        if not models:  # not all seeds were asked this
            continue
        sums = {
            model: [read_sums(folder, model).get(benchmark, {}) for _, folder in runs]
            for model in models
        }
        yield Outcome(
            setting=runs[0][0].setting,
            benchmark=benchmark,
            metric=metric_words(rows[0][models[0]]),
            seeds=[run.seed for run, _ in runs],
            standings=[
                _standing(model, [some[model] for some in rows], sums[model]) for model in models
            ],
            differences=[*_differences(sums)],
        )  # fmt: skip


def _standing(model: str, rows: Sequence[TableRow], sums: Sequence[Sums]) -> Standing:
    spent = [row.operations for row in rows if row.operations is not None]
    if not any(spent):  # it was not trained, so its seeds are more samples of one model
        sums = [_together(sums)]
    found = {
        one.key: interval([some.get(one.key, {}) for some in sums], largest=one.largest)
        for one in JUDGED
    }
    return Standing(
        model=model,
        operations=sum(spent) / len(spent) if len(spent) == len(rows) else None,
        values={key: value for key, value in found.items() if value is not None},
    )


def _together(seeds: Sequence[Sums]) -> Sums:
    """The completions of all seeds, by measure and prompt."""
    found: Sums = {}
    for sums in seeds:
        for key, prompts in sums.items():
            for prompt, some in prompts.items():
                found.setdefault(key, {}).setdefault(prompt, []).extend(some)
    return found


def _differences(sums: Mapping[str, Sequence[Sums]]) -> Iterator[Difference]:
    for against in AGAINST:
        for measure in JUDGED if against in sums and "distill" in sums else ():
            ours, theirs = (
                [some.get(measure.key, {}) for some in sums[model]]
                for model in ("distill", against)
            )
            if all(ours) and all(theirs):
                effect = difference(ours, theirs, largest=measure.largest)
                if effect is not None:
                    yield Difference(against=against, measure=measure, effect=effect)


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each setting, in the order of the study."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(repr(sorted(run.setting.items())), []).append(run)
    return list(found.values())
