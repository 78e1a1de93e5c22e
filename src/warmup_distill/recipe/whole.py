"""The recipe as a whole: everything a run depends on."""

from typing import Literal, Self

from pydantic import Field, model_validator

from warmup_distill.recipe.alignment import PairsSection, ReportSection, RolloutsSection
from warmup_distill.recipe.cluster import ClusterSection
from warmup_distill.recipe.controls import Control, Controls
from warmup_distill.recipe.data import BUNDLED_PROBLEMS, EvaluateSection, PromptsSection
from warmup_distill.recipe.distillation import CutSection, DistillSection
from warmup_distill.recipe.section import ModelName, Section, unit
from warmup_distill.recipe.training import WarmupSection


class Recipe(Section):
    """Everything a run depends on."""

    teacher: ModelName
    """`bundled:teacher`, a hub name, a folder, a .gguf file, or `package:NAME/FILE.gguf`."""
    student: ModelName
    """As `teacher`; the model to make ready and to distil into."""
    seed: int = Field(0, ge=0, lt=2**31, json_schema_extra=unit("seed"))
    """Of sampling and training; the same recipe and seed give the same rollouts and pairs."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the models' weights; trainings then run in bfloat16 over float32 master weights.
    Margins near the threshold flip in bfloat16."""
    teacher_dtype: Literal["float32", "bfloat16"] | None = None
    """Of the teacher's weights, if not as `dtype` says. Weights in fewer bits are as they are:
    bitsandbytes, GPTQ, AWQ or torchao, where the library is installed."""
    teacher_device_map: Literal["auto"] | None = None
    """`auto` spreads a teacher that is too large for one GPU over all that its process has."""
    save_dtype: Literal["source", "float32", "bfloat16"] = "source"
    """Of the weights that are saved; `source` is what the student came in. Small learning rates
    move weights by less than bfloat16 can hold: take float32 where that matters."""
    control: Controls = False
    """What the warm-up is held against; `true` is [steps]. `steps`: the student that was not warmed
    up, distilled in as many steps. `compute`: distilled on until it has cost as much as rollouts,
    warm-up and distillation. `cold_start`: trained on the teacher's completions for as much as the
    warm-up cost, then distilled. `corrected`: distilled on the rollouts' corrected completions."""
    prompts: PromptsSection
    cut: CutSection | None = None
    rollouts: RolloutsSection = RolloutsSection()
    pairs: PairsSection = PairsSection()
    warmup: WarmupSection = WarmupSection()
    distill: DistillSection = DistillSection()
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
    cluster: ClusterSection | None = None
    """Workers to share the work among; None is this process alone."""

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls by name."""
        if isinstance(self.control, bool):
            return ("steps",) if self.control else ()
        return tuple(self.control)

    @model_validator(mode="after")
    def _corrected_is_another(self) -> Self:
        completions = self.distill.completions
        if "corrected" not in self.controls:
            return self
        if completions.source == "rollouts":
            raise ValueError(
                "`control: corrected` is what `steps` does where distill.completions.source is "
                "rollouts: leave it out"
            )
        if completions.student_share == 1:
            raise ValueError(
                "`control: corrected` has no effect where distill.completions.student_share is 1: "
                "the student completes every prompt itself"
            )
        return self

    @model_validator(mode="after")
    def _distillation_has_completions(self) -> Self:
        source = self.prompts
        if source.dataset == BUNDLED_PROBLEMS or source.reference_column is not None:
            return self
        for section in (self.distill, *([self.cut] if self.cut else [])):
            completions = section.completions
            if completions.source == "references" and completions.student_share < 1:
                raise ValueError(
                    "prompts.reference_column is required: distillation learns from references, "
                    "unless completions.source is teacher or rollouts, or "
                    "completions.student_share is 1"
                )
        return self

    @model_validator(mode="after")
    def _filters_have_something_to_look_at(self) -> Self:
        source = self.prompts
        filters = {
            "pairs.verifier": (self.pairs.verifier, "answer_column"),
            "pairs.rouge_l": (self.pairs.rouge_l, "reference_column"),
            "distill.completions.verifier": (self.distill.completions.verifier, "answer_column"),
        }
        for name, (wanted, column) in filters.items():
            named = source.dataset == BUNDLED_PROBLEMS or getattr(source, column)
            if wanted and not named:
                raise ValueError(f"`{name}` has no effect without `prompts.{column}`")
        return self
