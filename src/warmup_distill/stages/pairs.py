"""pairs: rollouts → preference pairs, filtered and counted."""

from typing import Any

from warmup_distill.records import Pair, Prompt, Rollout
from warmup_distill.scoring.reward import RewardModel
from warmup_distill.stages.pairing import select_pairs
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import read_parts, write_parts


def write_pairs(session: Session) -> dict[str, Any]:
    """Write pairs/ and return the counts."""
    settings = session.recipe.pairs
    prompts = {p.prompt_id: p for p in read_parts(session.folder / "prompts", Prompt)}
    reward = RewardModel(settings.reward_model).score if settings.reward_model else None
    rollouts = read_parts(session.folder / "rollouts", Rollout)
    pairs, counts = select_pairs(rollouts, prompts, session.tokenizer, settings, reward)
    write_parts(session.folder / "pairs", Pair, pairs)
    return counts.as_dict()
