"""From prompts to preference pairs, and the report of it all."""

from typing import Literal, Self

from pydantic import Field, model_validator

from warmup_distill.recipe.engine import EngineSection
from warmup_distill.recipe.section import ModelName, Section, TokenCount, unit


class RolloutsSection(Section):
    """Student samples, checked by the teacher token by token and continued where they mismatch."""

    limit: int | None = Field(None, ge=1, json_schema_extra=unit("prompts"))
    """Prompts to roll out, from the first on; all if absent. Distillation uses all of them."""
    num_samples: int = Field(8, ge=1, le=1024, json_schema_extra=unit("completions"))
    """N, completions drawn from the student for each prompt."""
    margin_threshold: float = Field(4.0, gt=0, le=1000, json_schema_extra=unit("nats"))
    """η: a token mismatches when log q − log p is strictly greater. Higher: fewer pairs."""
    max_new_tokens: int = Field(256, ge=1, json_schema_extra=unit("tokens"))
    """Longest completion; longer ones are cut off and marked, never given an end."""
    temperature: float = Field(1.0, gt=0, json_schema_extra=unit("1"))
    """Of the student's samples. Margins are always those of the untempered models."""
    continuation_temperature: float = Field(1.0, ge=0, json_schema_extra=unit("1"))
    """Of the teacher's continuations; 0 is greedy."""
    stop_at_mismatch: bool = True
    """Keep teacher log-probabilities only up to the first mismatch; false keeps every margin."""
    engine: EngineSection = EngineSection()
    """What samples and checks; the records are the same whichever it is."""
    batch_tokens: TokenCount = Field("auto", json_schema_extra=unit("tokens ≥ 1, or `auto`"))
    """Tokens of prompts and completions whose keys and values are in memory together. `auto`: as
    many as fit, settled when the stage begins; the manifest says how many and why."""
    prompts_per_part: int = Field(128, ge=1, json_schema_extra=unit("prompts"))
    """Prompts per file: what is computed again at the most when a run is interrupted."""


class PairsSection(Section):
    """Which rollouts become preference pairs. Every filter is counted."""

    max_per_prompt: int | None = Field(None, ge=1, json_schema_extra=unit("pairs"))
    """Pairs that one prompt may give, in the order of the samples; all if absent."""
    truncated: Literal["keep", "drop"] = "keep"
    """What to do with a pair of which a side was cut off by `rollouts.max_new_tokens`."""
    verifier: Literal["chosen_right", "not_worse"] | None = None
    """For prompts with an answer: the chosen side must be right, or not worse than the rejected."""
    rouge_l: Literal["not_worse"] | None = None
    """For prompts with a reference: the chosen side's Rouge-L must not be below the rejected's."""
    reward_model: ModelName | None = None
    """A sequence-classification model (hub name or folder) that must score chosen higher."""
    min_reward_gain: float = Field(0.0, ge=0, json_schema_extra=unit("reward"))
    """By how much the chosen side's reward must be greater (strictly) than the rejected's."""

    @model_validator(mode="after")
    def _reward_has_a_model(self) -> Self:
        if self.min_reward_gain and self.reward_model is None:
            raise ValueError("`min_reward_gain` has no effect without a `reward_model`")
        return self


class ReportSection(Section):
    """The HTML page."""

    title: str | None = None
    """Heading of the page; the run's name if absent."""
    max_pairs: int = Field(200, ge=0, json_schema_extra=unit("pairs"))
    """Pairs in the viewer, from the first prompts on; each adds a few kilobytes."""
