"""The page as one string: templates, style and script put together under a strict policy.

Everything that is printed is escaped and cleaned; data for the script travels as JSON that cannot
end its element; the browser runs and applies only the script and style whose hashes the page names,
and may load nothing.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from warmup_distill.figures.chart import Chart
from warmup_distill.foreign.showing import clean
from warmup_distill.page import words
from warmup_distill.page.cards import VERDICTS, margin_edges
from warmup_distill.page.findings import Finding
from warmup_distill.page.measures import MEASURES
from warmup_distill.page.mismatches import Survey
from warmup_distill.page.table import TableRow, caption, cost_note, explanations
from warmup_distill.page.training import Training
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe

_HERE = Path(__file__).parent

FILTER_WORDS = {
    "equal": "equal to the student's own",
    "truncated": "cut off by the length limit",
    "verifier": "dropped by the verifier",
    "rouge_l": "dropped by Rouge-L",
    "reward_model": "dropped by the reward model",
    "max_per_prompt": "beyond the cap per prompt",
}
"""What each filter of the `pairs` stage drops, as the page says it."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the page shows."""

    name: str
    recipe: Recipe
    manifest: dict[str, Any]
    prompts: int
    table: Sequence[TableRow]
    findings: Sequence[Finding]
    score_charts: Mapping[str, Chart]
    """By benchmark."""
    survey: Survey
    mismatch_charts: Sequence[Chart | str]
    trainings: Sequence[Training]
    cards: Sequence[dict[str, Any]]

    def charts(self) -> Iterator[Chart]:
        """All figures of the page."""
        yield from self.score_charts.values()
        yield from (chart for chart in self.mismatch_charts if isinstance(chart, Chart))
        for training in self.trainings:
            yield from training.charts


def render(page: Page) -> str:
    """The page as HTML that opens from disk, without a network."""
    style, script = asset("style.css"), asset("viewer.js")
    stages = page.manifest.get("stages", {})
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            stages=stages,
            pair_counts=stages.get("pairs", {}).get("counts", {}),
            seconds=sum(stage.get("seconds", 0) for stage in stages.values()),
            recipe_text=dump_recipe(page.recipe),
            viewer=_viewer_data(page),
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
        )
    )


def environment(*folders: Path) -> jinja2.Environment:
    """How templates are read and what they print, escaped and cleaned.

    Args:
        folders: of templates, besides those that all pages share.
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"allow_nan": False}  # and keys as they come
    found.filters.update(
        count=words.count,
        decimal=words.decimal,
        percent=words.percent,
        duration=words.duration,
        listing=words.listing,
        operations=words.operations,
        ratio=words.ratio,
    )
    found.globals.update(
        filter_words=FILTER_WORDS,
        measures=MEASURES,
        caption=caption,
        cost_note=cost_note,
        explanations=explanations,
    )
    return found


def _printable(value: Any) -> Any:
    """Every value that a template prints passes here; markup of our own stays as it is."""
    return clean(value) if isinstance(value, str) and type(value) is not Markup else value


def asset(name: str) -> str:
    """One of the files that a page has inside."""
    return (_HERE / name).read_text(encoding="utf-8")


def policy(style: str, script: str | None = None) -> str:
    """A Content-Security-Policy that allows this style and this script and nothing else."""
    allowed = f"script-src {_source(script)}; " if script else ""
    return (
        f"default-src 'none'; style-src {_source(style)}; {allowed}"
        "base-uri 'none'; form-action 'none'"
    )


def _source(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _viewer_data(page: Page) -> dict[str, Any]:
    return {
        "cards": page.cards,
        "edges": margin_edges(page.recipe.rollouts.margin_threshold),
        "verdicts": VERDICTS,
    }
