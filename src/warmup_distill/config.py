"""The recipe: one section per stage, every field with its meaning, unit and range.

Names that `transformers.TrainingArguments` has are used as they are there. The docstring under a
field is its description in docs/recipe.md, which is generated from here.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

BUNDLED_PROBLEMS = "bundled:problems"


def unit(name: str) -> dict[str, Any]:
    """The unit of a number, shown beside its range in docs/recipe.md."""
    return {"unit": name}


class Section(BaseModel):
    """A part of the recipe: unknown keys, NaN and infinity are errors, and nothing changes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Source(Section):
    """Where rows come from: a file or a data set by name, and which columns hold what.

    A column `id`, where there is one, names the rows; else their numbers do.
    """

    file: Path | None = None
    """A local .jsonl, .json or .parquet file, relative to where the command runs."""
    dataset: str | None = None
    """A data set on the hub by name, or `bundled:problems`."""
    dataset_config: str | None = None
    """The configuration of a hub data set that has several, such as `main` of GSM8K."""
    split: str = "train"
    """Which split of a data set to read; the bundled problems have train, dev and test."""
    prompt_column: str = "prompt"
    """The column with what the user asks."""
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
        return self


class PromptsSection(Source):
    """The training prompts, with their references where there are any."""

    format: Literal["chat", "text"] = "chat"
    """`chat`: the prompt is a user's turn in the tokenizer's chat template; `text`: as it is."""


class RolloutsSection(Section):
    """Student samples, checked by the teacher token by token and continued where they mismatch."""

    limit: int | None = Field(None, ge=1, json_schema_extra=unit("prompts"))
    """Prompts to roll out, from the first on; all if absent. Distillation uses all of them."""
    num_samples: int = Field(8, ge=1, le=1024, json_schema_extra=unit("completions"))
    """N, completions drawn from the student for each prompt."""
    margin_threshold: float = Field(4.0, gt=0, json_schema_extra=unit("nats"))
    """η: a token mismatches when log q − log p is strictly greater. Higher: fewer pairs."""
    max_new_tokens: int = Field(256, ge=1, json_schema_extra=unit("tokens"))
    """Longest completion; longer ones are cut off and marked, never given an end."""
    temperature: float = Field(1.0, gt=0, json_schema_extra=unit("1"))
    """Of the student's samples. Margins are always those of the untempered models."""
    continuation_temperature: float = Field(1.0, ge=0, json_schema_extra=unit("1"))
    """Of the teacher's continuations; 0 is greedy."""
    stop_at_mismatch: bool = True
    """Keep teacher log-probabilities only up to the first mismatch; false keeps every margin."""
    engine: Literal["transformers"] = "transformers"
    """What samples and checks; the records are the same whichever it is."""
    batch_tokens: int = Field(16384, ge=1, json_schema_extra=unit("tokens"))
    """Tokens of prompts and completions whose keys and values are in memory together."""
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
    reward_model: str | None = None
    """A sequence-classification model (hub name or folder) that must score chosen higher."""
    min_reward_gain: float = Field(0.0, ge=0, json_schema_extra=unit("reward"))
    """By how much the chosen side's reward must be greater (strictly) than the rejected's."""


class LoraSection(Section):
    """Low-rank adapters by `peft`, merged into the weights at the end of the stage."""

    r: int = Field(16, ge=1, json_schema_extra=unit("rank"))
    """Rank of the adapters."""
    lora_alpha: float = Field(32.0, gt=0, json_schema_extra=unit("1"))
    """Scale of the adapters' output, before it is divided by `r`."""
    lora_dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra=unit("probability"))
    """Dropout before the adapters."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get one, or `all-linear`."""


class TrainSection(Section):
    """What the two training stages share; names and meaning of TrainingArguments."""

    learning_rate: float = Field(1e-6, gt=0, le=1, json_schema_extra=unit("per step"))
    """Peak learning rate of AdamW."""
    num_train_epochs: float = Field(1.0, gt=0, json_schema_extra=unit("epochs"))
    """Passes over the rows."""
    max_steps: int | None = Field(None, ge=1, json_schema_extra=unit("steps"))
    """Optimizer steps; overrides `num_train_epochs`."""
    per_device_train_batch_size: int = Field(8, ge=1, json_schema_extra=unit("rows"))
    """Rows (warm-up: pairs) in one forward pass."""
    gradient_accumulation_steps: int = Field(1, ge=1, json_schema_extra=unit("passes"))
    """Forward passes per optimizer step."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """How the learning rate falls after its warm-up."""
    warmup_steps: int = Field(0, ge=0, json_schema_extra=unit("steps"))
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=unit("1"))
    """Of AdamW."""
    max_grad_norm: float = Field(1.0, gt=0, json_schema_extra=unit("norm"))
    """Gradients are scaled down to this norm."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    lora: LoraSection | None = None
    """Train low-rank adapters instead of all weights; needs the extra `lora`."""


class WarmupSection(TrainSection):
    """Preference optimization (DPO) of the student on the pairs."""

    beta: float = Field(0.1, gt=0, json_schema_extra=unit("per nat"))
    """β of the loss. Higher: stays closer to the student as it came."""
    loss: Literal["sigmoid", "robust", "hinge", "ipo", "simpo"] = "sigmoid"
    """`sigmoid` is DPO. The first three run on what differs; the others on whole completions."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, json_schema_extra=unit("share"))
    """Share of pairs taken to be the wrong way round; for `sigmoid` (conservative) and `robust`."""
    gamma: float = Field(0.0, ge=0, json_schema_extra=unit("1"))
    """γ of `simpo`: by how much the chosen side must win."""
    nll_weight: float = Field(0.0, ge=0, json_schema_extra=unit("1"))
    """Weight of the chosen side's negative log-likelihood per token, added to the loss."""

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise ValueError(f"`label_smoothing` has no effect on the loss `{self.loss}`")
        if self.gamma and self.loss != "simpo":
            raise ValueError(f"`gamma` has no effect on the loss `{self.loss}`")
        return self

    def loss_options(self) -> dict[str, float]:
        """What the loss takes besides β."""
        if self.loss in ("sigmoid", "robust"):
            return {"label_smoothing": self.label_smoothing}
        return {"gamma": self.gamma} if self.loss == "simpo" else {}


class DistillSection(TrainSection):
    """Distillation from the teacher on the references of the prompts."""

    learning_rate: float = Field(1e-5, gt=0, le=1, json_schema_extra=unit("per step"))
    """Peak learning rate of AdamW."""
    objective: Literal["forward_kl", "reverse_kl", "sft"] = "forward_kl"
    """KL(teacher ‖ student), KL(student ‖ teacher), or cross-entropy with the references alone."""
    cross_entropy_weight: float = Field(0.0, ge=0, le=1, json_schema_extra=unit("share"))
    """w in (1 − w) · divergence + w · cross-entropy with the reference. Not for `sft`."""
    temperature: float = Field(1.0, gt=0, json_schema_extra=unit("1"))
    """Divides both models' logits in the divergence; values are not multiplied by its square."""
    max_length: int = Field(1024, ge=2, json_schema_extra=unit("tokens"))
    """Prompt and reference; a longer reference is cut and then has no end-of-sequence."""

    teacher_signal: Literal["live", "hidden", "top_k"] = "live"
    """Run the teacher in every step, or once: keep its hidden states (exact) or its top-k."""
    top_k: int = Field(64, ge=1, json_schema_extra=unit("tokens"))
    """Tokens kept at each position by `teacher_signal: top_k`; all others are one bucket."""

    @model_validator(mode="after")
    def _top_k_is_for_forward_kl(self) -> Self:
        if self.teacher_signal == "top_k" and self.objective != "forward_kl":
            raise ValueError(
                f"`teacher_signal: top_k` goes with objective `forward_kl` only: what the teacher "
                f"thinks of the tokens that `{self.objective}` asks for is not kept, and reverse "
                "KL on a bare top-k is unstable. Take `hidden`, which is exact"
            )
        if self.teacher_signal == "hidden" and self.objective == "sft":
            raise ValueError("`teacher_signal` has no effect on objective `sft`")
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
    def _ascending(self) -> Self:
        if self.keep_layers != sorted(set(self.keep_layers)) or self.keep_layers[0] < 0:
            raise ValueError(
                f"keep_layers must be distinct, from 0 and ascending, got {self.keep_layers}"
            )
        return self


class Benchmark(Source):
    """A set of held-out prompts and how completions of them are scored."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Names the result file: letters, digits, dot, dash, underscore; at most 64."""
    metric: Literal["accuracy", "rouge_l"] = "accuracy"
    """Accuracy of the final answer after `####`, or Rouge-L F-measure with the reference."""
    max_new_tokens: int | None = Field(None, ge=1, json_schema_extra=unit("tokens"))
    """Longest completion; `rollouts.max_new_tokens` if absent."""

    @model_validator(mode="after")
    def _has_what_the_metric_needs(self) -> Self:
        if self.dataset == BUNDLED_PROBLEMS:
            return self
        if self.metric == "accuracy" and self.answer_column is None:
            raise ValueError("metric `accuracy` needs `answer_column`")
        if self.metric == "rouge_l" and self.reference_column is None:
            raise ValueError("metric `rouge_l` needs `reference_column`")
        return self


class EvaluateSection(Section):
    """Scores of every model of the run, greedy and sampled, and its agreement with the teacher."""

    benchmarks: list[Benchmark] = []
    """What to evaluate on, each with a name of its own; without one the table stays empty."""
    agreement_prompts: int = Field(500, ge=1, json_schema_extra=unit("prompts"))
    """Prompts of each benchmark whose sampled completion the teacher checks, from the first on."""
    batch_tokens: int = Field(16384, ge=1, json_schema_extra=unit("tokens"))
    """Tokens of prompts and completions whose keys and values are in memory together."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [benchmark.name for benchmark in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError(f"benchmarks need names that differ, got {names}")
        return self


class ReportSection(Section):
    """The HTML page."""

    title: str | None = None
    """Heading of the page; the run's name if absent."""
    max_pairs: int = Field(200, ge=0, json_schema_extra=unit("pairs"))
    """Pairs in the viewer, from the first prompts on; each adds a few kilobytes."""


class Recipe(Section):
    """Everything a run depends on."""

    teacher: str
    """`bundled:teacher`, a hub name, a folder, a .gguf file, or `package:NAME/FILE.gguf`."""
    student: str
    """As `teacher`; the model to make ready and to distil into."""
    seed: int = Field(0, ge=0, lt=2**31, json_schema_extra=unit("seed"))
    """Of sampling and training; the same recipe and seed give the same rollouts and pairs."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of both models' weights; margins near the threshold flip in bfloat16."""
    control: bool = False
    """Also distil the student that was not warmed up, with the same budget and seed."""
    prompts: PromptsSection
    cut: CutSection | None = None
    rollouts: RolloutsSection = RolloutsSection()
    pairs: PairsSection = PairsSection()
    warmup: WarmupSection = WarmupSection()
    distill: DistillSection = DistillSection()
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _distill_has_references(self) -> Self:
        source = self.prompts
        if source.dataset != BUNDLED_PROBLEMS and source.reference_column is None:
            raise ValueError(
                "prompts.reference_column is required: distillation learns from references"
            )
        return self
