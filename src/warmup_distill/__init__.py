"""Make a student language model ready for its teacher before knowledge distillation.

The names below are loaded when first used, so that `import warmup_distill` stays quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "DistillTrainer": "training.distill",
    "Recipe": "recipe",
    "Vocabulary": "models.vocabulary",
    "WarmupDistillError": "errors",
    "WarmupTrainer": "training.warmup",
    "build_pairs": "api",
    "build_rollouts": "api",
    "load_recipe": "recipe.reading",
    "losses": "losses",
    "run": "pipeline",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return module if name == "losses" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
