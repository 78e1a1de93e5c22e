"""What a script of one's own gives to a trainer: models by name, rows, a vocabulary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warmup_distill.errors import DataError, ModelError, RecipeError
from warmup_distill.models.loading import load_model, load_tokenizer
from warmup_distill.models.placing import is_quantized, stays_where_it_is
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import Vocabulary, vocabulary_of


def given_model(model: Any, argument: str) -> Any:
    """The model itself, or the one of that name.

    Raises:
        ModelError: there is none of that name; the argument is named too.
    """
    if not isinstance(model, str | Path):
        return model
    try:
        return load_model(str(model))
    except ModelError as error:
        raise ModelError(f"{argument}: {error}") from error


def require_one_device(model: Any) -> None:
    """Raise a ModelError if the weights to train are spread over several devices."""
    if stays_where_it_is(model) and not is_quantized(model):
        raise ModelError(
            "model: the student's weights are spread over several devices (device_map), where they "
            "cannot be trained. Load it without a device_map; the teacher may have one."
        )


def given_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer itself, or that of the model of that name."""
    return load_tokenizer(str(tokenizer)) if isinstance(tokenizer, str | Path) else tokenizer


def given_vocabulary(tokenizer: Any, models: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of models and their tokenizer, or the one that came with the first of them.

    Raises:
        ModelError: none is given and none came with the model.
    """
    if tokenizer is None:
        name = getattr(next(iter(models.values())), "name_or_path", "")
        if not name:
            raise ModelError(
                "expected a tokenizer, to know which tokens the models share: give "
                "`processing_class=tokenizer`, or `vocabulary=` if you have made one."
            )
        tokenizer = load_tokenizer(name)
    return vocabulary_of(Renderer.of(tokenizer), models)


UNUSED = ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics")
UNUSED_SETTINGS = ("label_smoothing_factor", "neftune_noise_alpha")


def require_effect(arguments: Mapping[str, Any]) -> None:
    """Raise a RecipeError if a trainer is given what `transformers.Trainer` alone makes use of."""
    settings = arguments.get("args")
    given = [name for name in UNUSED if arguments.get(name) is not None]
    given += [f"args.{name}" for name in UNUSED_SETTINGS if getattr(settings, name, None)]
    if given:
        raise RecipeError(
            f"{given[0]} has no effect here: the loss is this trainer's own, and held-out rows "
            "give its mean and no predictions. Leave it out."
        )


def require_columns(dataset: Any, argument: str, needed: Sequence[str]) -> None:
    """Raise a DataError if a data set has other columns than a trainer reads.

    Args:
        dataset: a data set, several by name, or a list of rows; None is fine.
        argument: the name under which it was given.
        needed: the columns.
    """
    if isinstance(dataset, dict):
        for name, one in dataset.items():
            require_columns(one, f"{argument}[{name!r}]", needed)
        return
    columns = list(dataset[0]) if isinstance(dataset, list) and dataset else needed
    columns = getattr(dataset, "column_names", None) or columns
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            f"{argument}: expected the columns {', '.join(needed)}, but {', '.join(missing)} is "
            f"not among {', '.join(columns)}. Trainers read token ids and log-probabilities; "
            "`build_pairs` makes such rows for the warm-up."
        )
