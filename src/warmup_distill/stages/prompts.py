"""prompts: rows of the recipe's source → prompts as token ids."""

from warmup_distill.data.prompting import read_prompts
from warmup_distill.records import Prompt
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import write_parts


def write_prompts(session: Session) -> dict[str, int]:
    """Write prompts/ and return the counts."""
    recipe = session.recipe
    prompts, dropped = read_prompts(
        recipe.prompts,
        session.renderer,
        context=session.context,
        max_new_tokens=recipe.rollouts.max_new_tokens,
    )
    write_parts(session.folder / "prompts", Prompt, prompts)
    counts = {"prompts": len(prompts), "too_long": dropped}
    if recipe.prompts.reference_column:
        counts["without_reference"] = sum(prompt.reference is None for prompt in prompts)
    return counts
