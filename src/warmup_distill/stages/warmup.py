"""warmup: pairs → a student aligned to its teacher by preference optimization."""

from typing import Any

from warmup_distill.artifacts import read_parts
from warmup_distill.models import load_model, save_model
from warmup_distill.records import Pair, Rollout
from warmup_distill.session import Session
from warmup_distill.training.fit import fit
from warmup_distill.training.warmup import WarmupTrainer, needs_prefix

COLUMNS = (
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "mismatch_index",
    "chosen_ref_logprob",
    "rejected_ref_logprob",
)


def train_warmup(session: Session) -> dict[str, int]:
    """Write warmup/ and return the counts; without pairs it is the student unchanged."""
    recipe, folder = session.recipe, session.folder / "warmup"
    rows = _rows(session)
    if not rows:
        save_model(session.student(), session.tokenizer, folder)
        return {"rows": 0, "steps": 0}
    return fit(
        WarmupTrainer,
        load_model(session.student_name),
        rows,
        recipe.warmup,
        folder,
        seed=recipe.seed,
        tokenizer=session.tokenizer,
        autocast=recipe.dtype == "bfloat16",
        vocabulary=session.vocabulary,
        beta=recipe.warmup.beta,
        loss=recipe.warmup.loss,
        nll_weight=recipe.warmup.nll_weight,
        options=recipe.warmup.loss_options(),
    )


def _rows(session: Session) -> list[dict[str, Any]]:
    pairs = list(read_parts(session.folder / "pairs", Pair))
    rows: list[dict[str, Any]] = [
        {name: getattr(pair, name) for name in COLUMNS} | {"row": number}
        for number, pair in enumerate(pairs)
    ]
    if needs_prefix(session.recipe.warmup.loss, session.recipe.warmup.nll_weight):
        shared = {
            (rollout.prompt_id, rollout.sample_index): sum(
                rollout.student_logprobs[: rollout.mismatch_index]
            )
            for rollout in read_parts(session.folder / "rollouts", Rollout)
        }
        for row, pair in zip(rows, pairs, strict=True):
            row["prefix_ref_logprob"] = shared[pair.prompt_id, pair.sample_index]
    return rows
