"""What can be known of a recipe's models before their weights are loaded."""

from pathlib import Path

from transformers import AutoModelForSequenceClassification

from warmup_distill.engines.paths import path_ahead
from warmup_distill.errors import ModelError
from warmup_distill.models.loading import (
    blank_model,
    causal_config,
    load_config,
    load_weights,
    locate,
    require_weights,
)
from warmup_distill.models.quantizing import quantization_of, require_reader, require_trainable
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.batches import trainings_of
from warmup_distill.scoring.reward import require_one_output
from warmup_distill.training.adapters import with_lora


def require_models(recipe: Recipe) -> None:
    """Hold folders against their configurations, and adapters and rewards against their models.

    Raises:
        ModelError: weights do not fit, the student is quantized or nothing here reads the teacher's
            quantized weights, a model does not read from left to right, adapters find
            nothing to adapt, the student cannot be trained in shards, or a reward model gives no
            reward.
    """
    require_trainable(recipe.student, causal_config(recipe.student))
    require_reader(recipe.teacher, causal_config(recipe.teacher))
    for name in dict.fromkeys((recipe.teacher, recipe.student)):
        if is_here(name) and quantization_of(causal_config(name)) is None:
            blank_model(name)
        elif is_here(name):
            require_weights(name)
        expected_path(name)
    require_adapters(recipe)
    require_shardable(recipe)
    reward = recipe.pairs.reward_model
    if reward and is_here(reward):
        blank = load_weights(AutoModelForSequenceClassification, reward, device_map="meta")
        require_one_output(blank, reward)
    elif reward:
        load_config(reward)


def expected_path(name: str) -> str:
    """How a model will be run, in words: as its miniature says, if it says something.

    Raises:
        ModelError: it is no causal language model.
    """
    return str(path_ahead(causal_config(name)) or "found out when its weights are loaded")


def is_here(name: str) -> bool:
    """Whether a model's files can be read without fetching them."""
    return Path(locate(name)).is_dir()


def require_shardable(recipe: Recipe) -> None:
    """Raise a ModelError where FSDP would share out a student that runs its sequences apart."""
    trainings = trainings_of(recipe).items()
    sharded = [name for name, section in trainings if section.trainer.fsdp]
    path = path_ahead(causal_config(recipe.student)) if sharded else None
    if path is not None and path.why is not None:
        raise ModelError(
            f"{sharded[0]}.trainer.fsdp gathers weights in every pass, and {recipe.student} makes "
            f"as many of them as its texts want ({path}), which is not the same number in all "
            "processes. Leave fsdp out."
        )


def require_adapters(recipe: Recipe) -> None:
    """Raise a ModelError where a section's `lora` names parts that the student does not have."""
    sections = {"warmup": recipe.warmup, "distill": recipe.distill, "cut": recipe.cut}
    for name, section in sections.items():
        if section is None or section.lora is None or not is_here(recipe.student):
            continue
        try:
            with_lora(blank_model(recipe.student), section.lora)
        except ValueError as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{name}.lora does not fit {recipe.student}: {error}. Name the linear layers to "
                "adapt in target_modules, such as [q_proj, v_proj]."
            ) from error
