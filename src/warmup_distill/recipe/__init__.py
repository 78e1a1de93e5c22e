"""The recipe: one section per stage, every field with its meaning, unit and range.

Names that `transformers.TrainingArguments` has are used as they are there. The docstring under a
field is its description in docs/recipe.md, which is generated from here.
"""

from warmup_distill.recipe.alignment import PairsSection, ReportSection, RolloutsSection
from warmup_distill.recipe.data import (
    BUNDLED_PROBLEMS,
    Benchmark,
    EvaluateSection,
    PromptsSection,
    Source,
)
from warmup_distill.recipe.distillation import CutSection, DistillSection, ObjectiveOptions
from warmup_distill.recipe.reading import load_recipe
from warmup_distill.recipe.training import LoraSection, TrainSection, WarmupSection
from warmup_distill.recipe.whole import Recipe

__all__ = [
    "BUNDLED_PROBLEMS",
    "Benchmark",
    "CutSection",
    "DistillSection",
    "EvaluateSection",
    "LoraSection",
    "ObjectiveOptions",
    "PairsSection",
    "PromptsSection",
    "Recipe",
    "ReportSection",
    "RolloutsSection",
    "Source",
    "TrainSection",
    "WarmupSection",
    "load_recipe",
]
