"""What a training hands on to `transformers` as it is."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from warmup_distill.foreign.showing import brief
from warmup_distill.recipe.section import OnDisk, Section

FSDP_WORDS = ("full_shard", "shard_grad_op", "offload", "auto_wrap")
FSDP_SETTINGS = (
    "version", "reshard_after_forward", "cpu_offload", "auto_wrap_policy", "min_num_params",
    "transformer_layer_cls_to_wrap", "state_dict_type", "activation_checkpointing",
)  # fmt: skip
"""What `transformers` reads for FSDP2; it passes over anything else in silence."""


class TrainerSection(Section):
    """Fields of `transformers`' TrainingArguments, handed on as they are: how the model is shared
    out among workers, see docs/scale.md. Without any, each worker holds all of it."""

    fsdp: bool | str | list[str] = False
    """`true` shares weights, gradients and optimizer out among the workers' GPUs (FSDP2); or words
    as `full_shard auto_wrap`."""
    fsdp_config: dict[str, Any] = Field({})
    """Settings of FSDP by name, such as `{reshard_after_forward: false}`."""
    deepspeed: Annotated[Path, OnDisk] | None = None
    """A DeepSpeed configuration (JSON) of ZeRO stage 1 or 2; needs the package `deepspeed`."""

    @field_validator("fsdp")
    @classmethod
    def _known_words(cls, value: Any) -> Any:
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, bool) and (not words or set(words) - set(FSDP_WORDS)):
            known = ", ".join(FSDP_WORDS)
            raise ValueError(f"expected true, false or some of {known}, got {brief(value)}")
        return value

    @field_validator("fsdp_config")
    @classmethod
    def _known_settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        plain = _plain(value)
        unknown = [name for name in plain if name not in FSDP_SETTINGS]
        if unknown:
            raise ValueError(f"unknown key {unknown[0]}; known keys: {', '.join(FSDP_SETTINGS)}")
        version = plain.get("version", 2)
        if str(version) != "2":
            raise ValueError(
                f"expected version 2, the only one that trains here, got {brief(version)}"
            )
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.fsdp and self.deepspeed:
            raise ValueError("`fsdp` and `deepspeed` are two ways to the same end: leave out one")
        if self.fsdp_config and not self.fsdp:
            raise ValueError("`fsdp_config` has no effect without `fsdp: true`")
        return self

    @property
    def checkpoints_activations(self) -> bool:
        """Whether FSDP is asked to compute activations again."""
        return bool(_plain(self.fsdp_config).get("activation_checkpointing"))

    def given(self) -> dict[str, Any]:
        """The fields that were given, as TrainingArguments take them."""
        return self.model_dump(mode="json", exclude_defaults=True)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of FSDP under the names that `transformers` gives them."""
    return {name.removeprefix("fsdp_"): value for name, value in settings.items()}
