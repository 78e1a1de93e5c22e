"""From a source in the recipe to prompts that are ready for the models."""

from warmup_distill.data.sources import read_rows
from warmup_distill.errors import DataError
from warmup_distill.models.renderer import Renderer
from warmup_distill.recipe import Source
from warmup_distill.records import Prompt


def read_prompts(
    source: Source, renderer: Renderer, *, context: int, max_new_tokens: int
) -> tuple[list[Prompt], int]:
    """Read and encode the prompts of a source.

    Args:
        source: where the rows are.
        renderer: puts them to teacher and student.
        context: tokens that both models can read.
        max_new_tokens: tokens of the context to keep free for a completion.

    Returns:
        The prompts, and how many longer ones were dropped.

    Raises:
        DataError: as `read_rows`; or a prompt is too long and the source says `error`; or none
            is left.
    """
    room = context - max_new_tokens
    longest = min(room, source.max_prompt_tokens or room)
    if longest <= 0:
        raise DataError(
            f"completions of {max_new_tokens} tokens leave no room for prompts in the context of "
            f"{context} tokens. Lower max_new_tokens."
        )
    rows = read_rows(source)
    prompts = []
    for row in rows:
        ids = renderer.prompt(row.text)
        if len(ids) > longest:
            if source.too_long == "error":
                raise DataError(
                    f"the prompt {row.row_id} has {len(ids)} tokens, but at most {longest} fit "
                    f"(context {context}, of which {max_new_tokens} are for the completion"
                    + (f"; max_prompt_tokens {source.max_prompt_tokens}" if longest < room else "")
                    + "). Shorten it, or set `too_long: drop` to leave such prompts out."
                )
            continue
        prompts.append(
            Prompt(
                prompt_id=row.row_id,
                prompt_ids=ids,
                text=row.text,
                reference=row.reference,
                answer=row.answer,
            )
        )
    if not prompts:
        raise DataError(f"all {len(rows)} prompts are longer than the {longest} tokens that fit.")
    return prompts, len(rows) - len(prompts)
