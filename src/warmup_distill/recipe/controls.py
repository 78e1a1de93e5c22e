"""Controls: what the warm-up is held against, and the stages and models that each adds to a run."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from warmup_distill.foreign.showing import brief

Control = Literal["steps", "compute", "cold_start", "corrected"]

STAGES: dict[Control, tuple[str, ...]] = {
    "steps": ("control",),
    "compute": ("control_compute",),
    "cold_start": ("cold_start", "control_cold_start"),
    "corrected": ("control_corrected",),
}
"""The stages of each, in their order; every one trains a model, which is evaluated."""

MODELS = (
    "student", "warmup", "cold_start", "control", "control_compute", "control_cold_start",
    "control_corrected", "distill",
)  # fmt: skip
"""All models that a run may have, in the order of its table."""


def stages_of(controls: tuple[Control, ...]) -> list[str]:
    """The stages that some controls add, in their order."""
    return [stage for control in controls for stage in STAGES[control]]


def models_of(controls: tuple[Control, ...]) -> list[str]:
    """The models that are evaluated, in the order of the table."""
    found = {"student", "warmup", "distill", *stages_of(controls)}
    return [model for model in MODELS if model in found]


def _canonical(value: Any) -> Any:
    """One way to write each: no list for what a truth value says, and every name once, in order."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, list) or not all(one in STAGES for one in value):
        known = ", ".join(STAGES)
        raise ValueError(f"expected true, false, or a list of {known}, got {brief(value)}")
    found = [name for name in STAGES if name in value]
    return {(): False, ("steps",): True}.get(tuple(found), found)


Controls = Annotated[bool | list[Control], BeforeValidator(_canonical)]
