"""Training: what both stages share, and the warm-up."""

from typing import Literal, Self

from pydantic import Field, model_validator

from warmup_distill.recipe.section import Section, TokenCount, unit
from warmup_distill.recipe.trainer import TrainerSection


class LoraSection(Section):
    """Low-rank adapters by `peft`, merged into the weights at the end of the stage."""

    r: int = Field(16, ge=1, le=4096, json_schema_extra=unit("rank"))
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
    save_steps: int = Field(100, ge=1, json_schema_extra=unit("steps"))
    """Optimizer steps between checkpoints: what is computed again at the most after a kill."""
    row_tokens: TokenCount = Field("auto", json_schema_extra=unit("tokens ≥ 1, or `auto`"))
    """What one forward pass takes is packed into rows of so many tokens at the most (of pairs the
    prompts once, and each pair as long as the longest of its row), which run one after the other
    and give the gradient of all together: what bounds the memory, whatever the batch. `auto`:
    16384, or fewer where these do not fit."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    lora: LoraSection | None = None
    """Train low-rank adapters instead of all weights; needs the extra `lora`."""
    trainer: TrainerSection = TrainerSection()


class WatchSection(Section):
    """Examinations on held-out prompts while the warm-up runs; the best point is kept, which is the
    last one unless an earlier one was nearer to the teacher by more than a tenth.

    The prompts are the last ones that were not rolled out, or else the last of those that were, a
    tenth of them at the most, whose pairs are then not trained on.
    """

    prompts: int = Field(64, ge=0, json_schema_extra=unit("prompts"))
    """Held-out prompts, which the student answers once per examination; 0 does not examine."""
    steps: int = Field(50, ge=1, json_schema_extra=unit("steps"))
    """Optimizer steps between two examinations."""
    patience: int = Field(2, ge=1, json_schema_extra=unit("examinations"))
    """Examinations in a row that find the student further from its teacher than it came (share of
    mismatching samples and KL both), after which the warm-up stops."""


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
    watch: WatchSection = WatchSection()
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
