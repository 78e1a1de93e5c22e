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
        session.tokenizer,
        recipe.prompts.format,
        context=session.context,
        max_new_tokens=recipe.rollouts.max_new_tokens,
    )
    write_parts(session.folder / "prompts", Prompt, prompts)
    return {"prompts": len(prompts), "too_long": dropped}
