"""Where prompts come from, and what models are evaluated on."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from warmup_distill.recipe.section import OnDisk, Section, TokenCount, unit

BUNDLED_PROBLEMS = "bundled:problems"
MOST_PROBLEMS = 50_000


class Source(Section):
    """Where rows come from: a file or a data set by name, and which columns hold what.

    A column `id`, where there is one, names the rows; else their numbers do.
    """

    file: Annotated[Path, OnDisk] | None = None
    """A local .jsonl, .json or .parquet file, relative to where the command runs."""
    dataset: str | None = None
    """A data set on the hub by name, or `bundled:problems`."""
    dataset_config: str | None = None
    """The configuration of a hub data set that has several, such as `main` of GSM8K."""
    split: str = "train"
    """Which split of a data set to read; the bundled problems have train, dev and test."""
    prompt_column: str = "prompt"
    """The column with what the user asks."""
    input_column: str | None = None
    """A column with what the request is about, put after it and a blank line where there is any:
    `input` beside `instruction`, `context` beside `question`."""
    ignore_columns: list[str] = Field([])
    """Columns to leave out that look like a part of the prompt, such as `system` or `context`; they
    are refused otherwise where no other field names them and the prompt does not repeat them."""
    reference_column: str | None = None
    """The column with a good answer; needed by `distill` and for Rouge-L."""
    answer_column: str | None = None
    """The column with the final answer, or with a text that ends in `#### answer` as GSM8K's."""
    skip: int = Field(0, ge=0, json_schema_extra=unit("rows"))
    """Rows to leave out at the start."""
    limit: int | None = Field(None, ge=1, json_schema_extra=unit("rows"))
    """Rows to read at the most; all if absent. Required for the endless bundled problems."""
    seed: int = Field(0, ge=0, json_schema_extra=unit("seed"))
    """Seed of the bundled problems: another seed, other problems. Not used for other data."""
    max_prompt_tokens: int | None = Field(None, ge=1, json_schema_extra=unit("tokens"))
    """Longest prompt, template included; the room that the context leaves if absent."""
    too_long: Literal["error", "drop"] = "error"
    """What to do with a longer prompt: stop with a message, or leave it out and count it."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.dataset is None):
            raise ValueError("expected exactly one of `file` and `dataset`")
        if self.dataset == BUNDLED_PROBLEMS and self.limit is None:
            raise ValueError("`limit` is required: the bundled problems never end")
        if self.dataset == BUNDLED_PROBLEMS and self.skip + (self.limit or 0) > MOST_PROBLEMS:
            raise ValueError(
                f"`skip` and `limit` reach beyond {MOST_PROBLEMS:,} bundled problems: take fewer, "
                "or other ones by another `seed`"
            )
        return self


class PromptsSection(Source):
    """The training prompts, with their references where there are any."""

    format: Literal["chat", "text"] = "chat"
    """`chat`: the prompt is a user's turn in the tokenizer's chat template; `text`: as it is."""
    system: str | None = None
    """A system message before every prompt, benchmarks' included; what the chat template writes by
    itself if absent."""
    chat_template_kwargs: dict[str, Any] = Field({})
    """What both chat templates take besides, everywhere: `{enable_thinking: false}`, or a date,
    `{date_string: 26 Jul 2024}`. A template that asks the clock is told 26 July 2024."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _is_json(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                "expected values that JSON has: text (a date in quotes), numbers, true, false, "
                f"lists, mappings ({error})"
            ) from error
        if _holds_none(values):
            raise ValueError("expected values that are not null: leave the name out instead")
        return values

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        if self.format == "text" and (self.system is not None or self.chat_template_kwargs):
            raise ValueError(
                "`system` and `chat_template_kwargs` have no effect on `format: text`, which has "
                "no chat template"
            )
        return self


def _holds_none(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_none, value.values()))
    return any(map(_holds_none, value)) if isinstance(value, list) else value is None


class Benchmark(Source):
    """A set of held-out prompts and how completions of them are scored."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Names the result file: letters, digits, dot, dash, underscore; at most 64."""
    metric: Literal[
        "accuracy", "rouge_l", "exact_match", "gsm8k_flexible", "boxed", "boxed_qwen",
        "math_verify", "math_string",
    ] = "accuracy"  # fmt: skip
    """`accuracy`: GSM8K's strict rule, the answer after `####`; see docs/evaluation.md."""
    max_new_tokens: int | None = Field(None, ge=1, json_schema_extra=unit("tokens"))
    """Longest completion; `rollouts.max_new_tokens` if absent."""

    @property
    def compares_texts(self) -> bool:
        """Whether the metric holds completions to references, not to final answers."""
        return self.metric in ("rouge_l", "exact_match")

    @model_validator(mode="after")
    def _has_what_the_metric_needs(self) -> Self:
        if self.dataset == BUNDLED_PROBLEMS:
            return self
        needed = "reference_column" if self.compares_texts else "answer_column"
        if getattr(self, needed) is None:
            raise ValueError(f"metric `{self.metric}` needs `{needed}`")
        return self


class EvaluateSection(Section):
    """Scores of every model of the run, greedy and sampled, and its agreement with the teacher."""

    benchmarks: list[Benchmark] = Field([])
    """What to evaluate on, each with a name of its own; without one the table stays empty."""
    samples: int = Field(1, ge=1, le=1024, json_schema_extra=unit("completions"))
    """Completions sampled for each prompt. More: smaller errors, which are over prompts."""
    agreement_prompts: int = Field(500, ge=1, json_schema_extra=unit("prompts"))
    """Prompts of each benchmark whose sampled completions the teacher checks, from the first on."""
    batch_tokens: TokenCount = Field("auto", json_schema_extra=unit("tokens ≥ 1, or `auto`"))
    """Tokens of prompts and completions whose keys and values are in memory together. `auto`: as
    many as fit, settled when the stage begins; the manifest says how many and why."""

    @model_validator(mode="before")
    @classmethod
    def _computes_here(cls, value: Any) -> Any:
        if isinstance(value, dict) and "engine" in value:
            raise ValueError(
                "`engine` is for rollouts alone: a server keeps the weights that it was started "
                "with, and a run makes new ones. Leave it out to evaluate in process; or serve a "
                "trained model by itself (`vllm serve RUN/distill …`) and ask it: "
                "`warmup-distill evaluate RUN/distill --suite … --server URL`"
            )
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [benchmark.name for benchmark in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError(f"benchmarks need names that differ, got {names}")
        return self
