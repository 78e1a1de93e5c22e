"""The batch of one optimizer step, shared out among training processes."""

from warmup_distill.errors import RecipeError
from warmup_distill.recipe import controls
from warmup_distill.recipe.training import TrainSection
from warmup_distill.recipe.whole import Recipe


def share_of_batch(per_device: int, accumulation: int, processes: int) -> tuple[int, int]:
    """Rows of a forward pass, and passes per step, of each of some processes.

    All of them together make the batch that the recipe names: per_device × accumulation rows per
    optimizer step, however many processes there are. A pass has as many rows as divide a process's
    share evenly, and never more than the recipe names, which is what fits into memory.

    Raises:
        RecipeError: the batch cannot be shared out evenly.

    Example:
        >>> share_of_batch(8, 8, 8), share_of_batch(8, 8, 2), share_of_batch(8, 8, 32)
        ((8, 1), (8, 4), (2, 1))
    """
    batch = per_device * accumulation
    if batch % processes:
        fits = most_processes(batch, processes)
        raise RecipeError(
            f"a batch of {batch:,} rows (per_device_train_batch_size {per_device} × "
            f"gradient_accumulation_steps {accumulation}) cannot be shared evenly among "
            f"{processes:,} training processes. Take {fits:,} of them, or a batch that "
            f"{processes:,} divides."
        )
    share = batch // processes
    rows = next(rows for rows in range(min(per_device, share), 0, -1) if share % rows == 0)
    return rows, share // rows


def most_processes(batch: int, workers: int) -> int:
    """The most of some workers that a batch can be shared among evenly."""
    return next(count for count in range(min(batch, workers), 0, -1) if batch % count == 0)


def trainings_of(recipe: Recipe, stage: str | None = None) -> dict[str, TrainSection]:
    """The sections of a recipe that train, by name; of one stage alone if it is given."""
    found: dict[str, TrainSection] = {"warmup": recipe.warmup, "distill": recipe.distill}
    found |= {"cut": recipe.cut} if recipe.cut and recipe.cut.heal else {}
    if stage is None:
        return found
    name = "distill" if stage in controls.stages_of(tuple(controls.STAGES)) else stage
    return {name: found[name]} if name in found else {}


def holders(recipe: Recipe, section: TrainSection) -> int:
    """Workers that share out the weights of a training; 1 if each holds all of them."""
    return recipe.cluster.num_workers if recipe.cluster and section.trainer.fsdp else 1


def require_shares(recipe: Recipe, processes: int, stage: str | None = None) -> None:
    """Raise a RecipeError if a training of the recipe cannot be shared out among processes."""
    faults: dict[str, list[str]] = {}
    for name, section in trainings_of(recipe, stage).items():
        per_device = section.per_device_train_batch_size
        try:
            share_of_batch(per_device, section.gradient_accumulation_steps, processes)
        except RecipeError as error:
            faults.setdefault(str(error), []).append(name)
    if faults:
        raise RecipeError(
            "; ".join(f"{' and '.join(names)}: {fault}" for fault, names in faults.items())
        )
