"""Distillation: its objective, its completions, and the cut student that it heals."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from warmup_distill.recipe.section import Section, unit
from warmup_distill.recipe.training import TrainSection

OBJECTIVES: dict[str, tuple[str, ...]] = {
    "forward_kl": ("form",),
    "reverse_kl": (),
    "symmetric_kl": ("reverse_share",),
    "jensen_shannon": ("mixture", "convention"),
    "skewed_forward_kl": ("skew", "form"),
    "skewed_reverse_kl": ("skew", "detach_mixture"),
    "adaptive_kl": ("head_mass", "variant"),
    "total_variation": (),
    "alpha_beta": ("alpha", "beta"),
    "concrete_score": ("first_weight", "second_weight"),
    "taid": ("t_start", "t_end", "rate", "momentum"),
    "sft": (),
}
"""Every objective of `distill` and the options that it takes; a test holds losses/ to it."""

Weight = Literal["student", "teacher", "uniform"]


class ObjectiveOptions(Section):
    """What an objective takes besides, each only where it has an effect."""

    form: Literal["kl", "ce"] | None = None
    """`forward_kl`, `skewed_forward_kl`: with the teacher's entropy taken off (`kl`, default) or
    not (`ce`): the same gradient, another value."""
    reverse_share: float | None = Field(None, ge=0, le=1, json_schema_extra=unit("share"))
    """`symmetric_kl`: weight of KL(student ‖ teacher); 0.5 if absent, 0.9 in DistiLLM's code."""
    mixture: float | None = Field(None, ge=0, le=1, json_schema_extra=unit("share"))
    """`jensen_shannon`: β; 0.5 if absent. 0 and 1 are the two KL divergences."""
    convention: Literal["gkd", "distillm", "kdflow"] | None = None
    """`jensen_shannon`: whose share β is: the teacher's (`gkd`, default) or the student's."""
    skew: float | None = Field(None, gt=0, lt=1, json_schema_extra=unit("share"))
    """`skewed_forward_kl`, `skewed_reverse_kl`: α; 0.1 if absent."""
    detach_mixture: bool | None = None
    """`skewed_reverse_kl`: hold the student inside the mixture fixed, as DistiLLM-2's code does."""
    head_mass: float | None = Field(None, gt=0, lt=1, json_schema_extra=unit("probability"))
    """`adaptive_kl`: μ, the teacher's mass that counts as the head; 0.5 if absent."""
    variant: Literal["paper", "dskd"] | None = None
    """`adaptive_kl`: the token that crosses μ is tail (`paper`, default) or head (`dskd`)."""
    alpha: float | None = Field(None, ge=-2, le=2, json_schema_extra=unit("1"))
    """`alpha_beta`: α, the teacher's power; 0.5 if absent."""
    beta: float | None = Field(None, ge=-2, le=2, json_schema_extra=unit("1"))
    """`alpha_beta`: β, the student's power; 0.5 if absent."""
    first_weight: Weight | None = None
    """`concrete_score`: distribution over the first token of each difference; `student`."""
    second_weight: Weight | None = None
    """`concrete_score`: distribution over the second one; `student` if absent."""
    t_start: float | None = Field(None, ge=0, lt=1, json_schema_extra=unit("share"))
    """`taid`: the teacher's share of the target in the first step; 0.4 if absent."""
    t_end: float | None = Field(None, gt=0, le=1, json_schema_extra=unit("share"))
    """`taid`: the share at which it stays; 1 if absent."""
    rate: float | None = Field(None, ge=0, le=1, json_schema_extra=unit("per step"))
    """`taid`: the largest adaptive step of the share; 5e-4 if absent."""
    momentum: float | None = Field(None, ge=0, lt=1, json_schema_extra=unit("1"))
    """`taid`: how long the fall of the loss is remembered; 0.99 if absent."""

    def given(self) -> dict[str, Any]:
        """The options that the recipe names."""
        return self.model_dump(exclude_none=True)


class AdaptiveSection(Section):
    """DistiLLM's schedule: more student completions each time that the validation loss rises.

    Source: Ko et al. 2024, arXiv:2402.03898, section 3.2, with the defaults of its code.
    """

    start: float = Field(0.0, ge=0, le=1, json_schema_extra=unit("share"))
    """φ, share of passes on student completions in the beginning."""
    increase: float = Field(0.1, gt=0, le=1, json_schema_extra=unit("share"))
    """By how much φ rises."""
    tolerance: float = Field(0.1, ge=0, json_schema_extra=unit("nats per token"))
    """φ rises when the validation loss is at least so far above the one at its last rise."""
    validation_rows: int = Field(64, ge=1, json_schema_extra=unit("rows"))
    """Rows held out for the validation loss, the last ones of the data."""
    validation_steps: int = Field(50, ge=1, json_schema_extra=unit("steps"))
    """Optimizer steps between two validations."""
    replay: Literal["decreasing", "constant", "increasing"] = "decreasing"
    """How the share of φ that is drawn anew, not from the buffer, moves: 1 → 0, ½, or 0 → 1."""
    capacity: int = Field(1000, ge=1, json_schema_extra=unit("rows"))
    """Student completions that the replay buffer keeps, the newest ones."""


class CompletionsSection(Section):
    """What the student is distilled on: references, completions of the teacher, corrected ones of
    the rollouts, or the student's own."""

    source: Literal["references", "teacher", "rollouts"] = "references"
    """`teacher`: one completion per prompt, drawn from the teacher before the training starts.
    `rollouts`: the student's completions of the rollouts, corrected: up to the mismatch its own and
    from there the teacher's, or all its own where nothing mismatches; N for each prompt that was
    rolled out, and nothing more to compute."""
    verifier: Literal["right"] | None = None
    """`rollouts`, for prompts with an answer: leave out completions that are wrong; the manifest
    counts them."""
    student_share: float = Field(0.0, ge=0, le=1, json_schema_extra=unit("share"))
    """λ: share of passes on completions that the student draws at that moment; 1 is on-policy."""
    adaptive: AdaptiveSection | None = None
    """DistiLLM's schedule of that share, with a replay buffer."""
    temperature: float = Field(1.0, ge=0, json_schema_extra=unit("1"))
    """Of the teacher's and the student's draws; 0 is greedy."""
    max_new_tokens: int | None = Field(None, ge=1, json_schema_extra=unit("tokens"))
    """Longest drawn completion; `rollouts.max_new_tokens` if absent."""

    @property
    def from_student(self) -> bool:
        """Whether some completions are the student's own."""
        return self.student_share > 0 or self.adaptive is not None

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        if self.adaptive and self.student_share:
            raise ValueError("`adaptive` sets the share itself: leave out `student_share`")
        drawn = self.from_student or self.source == "teacher"
        if not drawn and (self.temperature != 1 or self.max_new_tokens is not None):
            raise ValueError(
                f"`temperature` and `max_new_tokens` have no effect on {self.source}: set "
                "`source: teacher`, `student_share` or `adaptive`"
            )
        if self.verifier and self.source != "rollouts":
            raise ValueError("`verifier` has no effect without `source: rollouts`")
        if self.source == "rollouts" and self.student_share == 1:
            raise ValueError(
                "`source: rollouts` has no effect where `student_share` is 1: the student "
                "completes every prompt itself"
            )
        return self


class DistillSection(TrainSection):
    """Distillation from the teacher, on the references of the prompts if nothing else is said."""

    learning_rate: float = Field(1e-5, gt=0, le=1, json_schema_extra=unit("per step"))
    """Peak learning rate of AdamW."""
    objective: Literal[
        "forward_kl", "reverse_kl", "symmetric_kl", "jensen_shannon", "skewed_forward_kl",
        "skewed_reverse_kl", "adaptive_kl", "total_variation", "alpha_beta", "concrete_score",
        "taid", "sft",
    ] = "forward_kl"  # fmt: skip
    """A divergence, defined in docs/objectives.md, or `sft`: cross-entropy with the completions."""
    options: ObjectiveOptions = ObjectiveOptions()
    cross_entropy_weight: float = Field(0.0, ge=0, le=1, json_schema_extra=unit("share"))
    """w in (1 − w) · divergence + w · cross-entropy with the completion. Not for `sft`."""
    temperature: float = Field(1.0, gt=0, json_schema_extra=unit("1"))
    """Divides both models' logits in the divergence."""
    temperature_squared: bool = False
    """Multiply the divergence by temperature², as DistillKit and axolotl do; most do not."""
    completions: CompletionsSection = CompletionsSection()
    limit: int | None = Field(None, ge=1, json_schema_extra=unit("rows"))
    """Distil on the first so many rows alone, as where few prompts have a reference."""
    max_length: int = Field(1024, ge=2, json_schema_extra=unit("tokens"))
    """Prompt and completion; a longer one is cut and then has no end-of-sequence."""
    teacher_signal: Literal["live", "hidden", "top_k"] = "live"
    """Run the teacher in every step, or once: keep its hidden states (exact) or its top-k."""
    top_k: int = Field(64, ge=1, json_schema_extra=unit("tokens"))
    """Tokens kept at each position by `teacher_signal: top_k`; all others are one bucket."""

    @model_validator(mode="after")
    def _options_belong_to_the_objective(self) -> Self:
        known = OBJECTIVES[self.objective]
        for name in self.options.given():
            if name not in known:
                takes = ", ".join(known) or "none"
                raise ValueError(
                    f"`options.{name}` has no effect on the objective `{self.objective}` "
                    f"(options that it takes: {takes})"
                )
        if self.temperature_squared and self.temperature == 1:
            raise ValueError("`temperature_squared` has no effect at `temperature: 1`")
        return self

    @model_validator(mode="after")
    def _signal_fits(self) -> Self:
        if self.teacher_signal == "top_k" and (self.objective, self.options.form) not in (
            ("forward_kl", None), ("forward_kl", "kl"),
        ):  # fmt: skip
            raise ValueError(
                f"`teacher_signal: top_k` goes with objective `forward_kl` only, in the form `kl`: "
                f"what the teacher thinks of the tokens that `{self.objective}` asks for is not "
                "kept, and reverse KL on a bare top-k is unstable. Take `hidden`, which is exact"
            )
        if self.teacher_signal == "hidden" and self.objective == "sft":
            raise ValueError("`teacher_signal` has no effect on objective `sft`")
        if self.teacher_signal != "live" and self.completions.from_student:
            raise ValueError(
                "completions that the student draws are new in every step: take "
                "`teacher_signal: live`"
            )
        return self

    @model_validator(mode="after")
    def _sft_has_no_divergence(self) -> Self:
        if self.objective == "sft" and (self.cross_entropy_weight or self.temperature != 1):
            raise ValueError(
                "objective `sft` is cross-entropy alone: leave out `cross_entropy_weight` and "
                "`temperature`, which would have no effect"
            )
        return self


class CutSection(DistillSection):
    """Make the student by keeping some of its layers, then heal it by a short distillation."""

    keep_layers: list[int] = Field(min_length=1)
    """Which layers stay, counted from 0, in ascending order, such as [0, 1, 2, 15, 28, 29]."""
    heal: bool = True
    """Distil the cut model with this section's settings before it counts as the student."""

    @model_validator(mode="after")
    def _comes_before_the_rollouts(self) -> Self:
        if self.completions.source == "rollouts":
            raise ValueError(
                "`completions.source: rollouts` is for `distill` alone: there are no rollouts "
                "before there is a student"
            )
        return self

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.keep_layers != sorted(set(self.keep_layers)) or self.keep_layers[0] < 0:
            raise ValueError(
                f"keep_layers must be distinct, from 0 and ascending, got {self.keep_layers}"
            )
        return self
