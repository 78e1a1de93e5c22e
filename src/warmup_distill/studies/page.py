"""What a study shows while it runs and at its end: a page, figures, tables, and Markdown.

DIR/
  index.html     the page
  study.md       its table and sentences, for a README or a paper
  runs.csv, runs.parquet        one row a run
  scores.csv, scores.parquet    one row a model that was evaluated, of each run
  figures/NAME.svg, .pdf, .csv
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from warmup_distill.figures.chart import Chart
from warmup_distill.foreign.showing import clean
from warmup_distill.page.build import asset, environment, policy
from warmup_distill.page.findings import AGAINST
from warmup_distill.page.table import MODELS
from warmup_distill.page.words import count, enumeration
from warmup_distill.scoring.intervals import Interval
from warmup_distill.store.artifacts import write_bytes, write_text
from warmup_distill.studies.charts import compute_charts, field_charts, said
from warmup_distill.studies.results import MEASURED, Row, run_row, score_rows, write_table
from warmup_distill.studies.settings import Run, Study
from warmup_distill.studies.summary import JUDGED, Outcome, Summaries, grouped

_HERE = Path(__file__).parent


@dataclass(kw_only=True)
class Showing:
    """Writes what a study has come to; told after each run."""

    study: Study
    folder: Path
    runs_in: Path
    """Where the run directories are."""
    _rows: dict[str, Row] = field(default_factory=dict)
    _summaries: Summaries = field(default_factory=Summaries)

    def write(self, failures: Mapping[str, str]) -> None:
        """Write everything anew."""
        rows = [self._row(run, failures) for run in self.study.runs]
        outcomes = [*self._outcomes(failures)]
        settings = [some[0].setting for some in grouped(self.study.runs)]
        charts = [
            *compute_charts(outcomes),
            *field_charts(rows, settings, self.study.runs[0].recipe),
        ]
        scores = [
            row
            for run in self.study.runs
            if run.name not in failures
            for row in score_rows(run, self.runs_in / run.name)
        ]
        write_table(self.folder, "runs", rows)
        if scores:
            write_table(self.folder, "scores", scores)
        for chart in charts:
            for name, content in chart.files():
                write_bytes(self.folder / "figures" / name, content)
        write_text(self.folder / "study.md", markdown(self.study, rows, outcomes, charts))
        write_text(self.folder / "index.html", render(self.study, rows, outcomes, charts, failures))

    def _row(self, run: Run, failures: Mapping[str, str]) -> Row:
        """Of a run that is complete nothing changes any more."""
        known = self._rows.get(run.name)
        if known is None or known["state"] != "complete":
            known = run_row(run, self.runs_in / run.name, failures.get(run.name))
            self._rows[run.name] = known
        return known

    def _outcomes(self, failures: Mapping[str, str]) -> Iterator[Outcome]:
        for runs in grouped(self.study.runs):
            some = [(run, self.runs_in / run.name) for run in runs if run.name not in failures]
            yield from self._summaries.of(some)


def sentences(outcomes: Sequence[Outcome]) -> list[str]:
    """What the settings say of the warm-up, one sentence for each control."""
    found = []
    for against in AGAINST:
        said_so = {
            measure.phrase: [
                one.verdict
                for outcome in outcomes
                for one in outcome.differences
                if one.against == against and one.measure == measure
            ]
            for measure in JUDGED
            if measure.is_score
        }
        where = len({outcome.benchmark for outcome in outcomes})
        noun = "settings" if where == 1 else f"settings on {where} benchmarks"
        parts = [f"{_counted(some, noun)} by {name}" for name, some in said_so.items() if some]
        if parts:
            held = f"Warmed up and distilled, held against “{MODELS[against]}”, is "
            found.append(f"{held}{enumeration(parts)}.")
    return found


def _counted(verdicts: Sequence[str], noun: str) -> str:
    """How many settings say what."""
    words = {"better": "better", "worse": "worse", "unclear": "not clearly different"}
    parts = [f"{words[one]} in {verdicts.count(one)}" for one in words if one in verdicts]
    return f"{enumeration(parts)} of {len(verdicts)} {noun}"


def render(
    study: Study,
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    charts: Sequence[Chart],
    failures: Mapping[str, str],
) -> str:
    """The page as HTML that opens from disk, without a network or a script."""
    style = asset("style.css")
    return (
        environment(_HERE)
        .get_template("study.html.j2")
        .render(
            study=study,
            rows=rows,
            outcomes=outcomes,
            charts=charts,
            failures=failures,
            sentences=sentences(outcomes),
            judged=JUDGED,
            measured=_measured(rows),
            models=MODELS,
            said=said,
            done=sum(row["state"] == "complete" for row in rows),
            style=Markup(style),
            policy=policy(style),
        )
    )


def _measured(rows: Sequence[Row]) -> dict[str, str]:
    """Columns of runs that some run has, and what they are called."""
    return {
        column: words
        for column, words in MEASURED.items()
        if any(row.get(column) is not None for row in rows)
    }


def markdown(
    study: Study, rows: Sequence[Row], outcomes: Sequence[Outcome], charts: Sequence[Chart]
) -> str:
    """The study's sentences, tables and figures."""
    lines = [f"# {_cell(study.title)}", "", _progress(rows), ""]
    lines += [f"- {one}" for one in sentences(outcomes)]
    lines += [""] if outcomes else []
    for outcome in outcomes:
        lines += [*_outcome_lines(outcome), ""]
    if not outcomes:
        lines += [*_run_lines(rows), ""]
    for chart in charts:
        lines += [f"![{_cell(chart.caption.title)}](figures/{chart.caption.name}.svg)", ""]
    return "\n".join(lines)


def _progress(rows: Sequence[Row]) -> str:
    done = sum(row["state"] == "complete" for row in rows)
    return f"{count(done)} of {count(len(rows))} runs are complete."


def _outcome_lines(outcome: Outcome) -> Iterator[str]:
    seeds = (
        f"{'seeds' if len(outcome.seeds) > 1 else 'seed'} {enumeration([*map(str, outcome.seeds)])}"
    )
    where = ", ".join(filter(None, [outcome.benchmark, said(outcome.setting)]))
    yield f"**{_cell(where)}** ({seeds})"
    yield ""
    yield "| model | compute | " + " | ".join(one.title for one in JUDGED) + " |"
    yield "| --- |" + " ---: |" * (1 + len(JUDGED))
    for one in outcome.standings:
        cells = [interval_text(one.values.get(m.key), m.show) for m in JUDGED]
        spent = f"{one.operations:.2e}" if one.operations else "–"
        yield f"| {one.label} | {spent} | " + " | ".join(cells) + " |"
    for against in dict.fromkeys(one.against for one in outcome.differences):
        effects = {d.measure: d.effect for d in outcome.differences if d.against == against}
        cells = [interval_text(effects.get(m), m.show_change) for m in JUDGED]
        yield f"| warmed up and distilled − {MODELS[against]} | | " + " | ".join(cells) + " |"


def _run_lines(rows: Sequence[Row]) -> Iterator[str]:
    known = _measured(rows)
    yield "| run | " + " | ".join(known.values()) + " |"
    yield "| --- |" + " ---: |" * len(known)
    for row in rows:
        cells = ["–" if row.get(c) is None else f"{row[c]:.4g}" for c in known]
        yield f"| {_cell(row['run'])} | " + " | ".join(cells) + " |"


def interval_text(value: Interval | None, show: Callable[[float], str]) -> str:
    """A mean with its interval, or a dash."""
    if value is None:
        return "–"
    return f"{show(value.mean)} ({show(value.low)} to {show(value.high)})"


def _cell(text: str) -> str:
    """Text of others in a line of Markdown."""
    return clean(text).replace("|", "\\|").replace("\n", " ")
