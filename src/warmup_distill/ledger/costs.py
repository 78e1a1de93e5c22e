"""What stages cost: entries of the manifest, and their sums."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from warmup_distill.ledger.counting import Passes, Role, Work
from warmup_distill.ledger.passes import operations, training_operations
from warmup_distill.ledger.ran import Ran
from warmup_distill.models.sizes import Sizes

Models = Mapping[Role, Sizes]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one kind of work of one model took in a stage."""

    model: Role
    work: Work
    tokens: int
    """Those that ran through the model's body, prompts among them."""
    operations: int
    """Floating-point operations of its matrix products; see `passes`."""


def costs(passes: Passes, models: Models) -> list[Cost]:
    """Of forward passes."""
    return [
        Cost(model=model, work=work, tokens=one.tokens, operations=found)
        for (model, work), one in passes.items()
        if (found := operations(one, models[model]))
    ]


def training_costs(ran: Ran, models: Models, adapters: int) -> list[Cost]:
    """Of a training.

    Args:
        adapters: numbers of its low-rank adapters; 0 where all weights are trained.
    """
    trained = training_operations(ran.trained, ran.again, models["student"], adapters)
    others: Passes = {
        ("student", "sample"): ran.drawn,
        ("student", "score"): ran.scored,
        ("teacher", "score"): ran.taught,
    }
    own = Cost(model="student", work="train", tokens=ran.trained.tokens, operations=trained)
    return [*([own] if trained else []), *costs(others, models)]


def total(some: Iterable[Cost]) -> int:
    """Operations of all of them."""
    return sum(one.operations for one in some)
