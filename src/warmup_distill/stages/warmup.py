"""warmup: pairs → a student aligned to its teacher by preference optimization."""

from warmup_distill.artifacts import read_parts
from warmup_distill.models import load_model, save_model
from warmup_distill.records import Pair
from warmup_distill.session import Session
from warmup_distill.training.fit import fit
from warmup_distill.training.warmup import WarmupTrainer

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
    rows = [
        {name: getattr(pair, name) for name in COLUMNS}
        for pair in read_parts(session.folder / "pairs", Pair)
    ]
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
    )
