"""What stages ran, as costs in the manifest."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from warmup_distill.ledger.costs import costs, training_costs
from warmup_distill.ledger.counting import Passes, of_rollouts
from warmup_distill.ledger.ran import Ran
from warmup_distill.records import Prompt, Rollout
from warmup_distill.stages.session import Session


def charge_rollouts(
    session: Session, prompts: Sequence[Prompt], rollouts: Iterable[Rollout]
) -> None:
    """Write down what rollouts cost."""
    lengths = {prompt.prompt_id: len(prompt.prompt_ids) for prompt in prompts}
    spent = costs(of_rollouts(lengths, rollouts, session.apart), session.sizes)
    session.charge("rollouts", spent, session.student_stages)


def charge_training(
    session: Session,
    stage: str,
    counts: Mapping[str, Any],
    uses: Iterable[str],
    before: Passes | None = None,
) -> dict[str, Any]:
    """Write down what a training cost; returns its counts without what it ran.

    Args:
        counts: what `fit` returned.
        uses: stages that it goes on from.
        before: what was run ahead of it, for it.
    """
    ran = Ran.total([counts["ran"]])
    spent = training_costs(ran, session.sizes, counts["adapters"])
    session.charge(stage, [*costs(before or {}, session.sizes), *spent], uses)
    return {name: value for name, value in counts.items() if name not in ("ran", "adapters")}
