"""Which ids mean the same to two models, and which of the others can occur.

A special token is none that a text gives, for control tokens in texts stay text. So where no
chat template writes it and nothing ends with it, nobody meets it, and it may differ.
"""

from collections.abc import Mapping

from warmup_distill.errors import ModelError
from warmup_distill.models.renderer import Renderer

WRITTEN = "The chat template writes it, or a completion ends with it."
ORDINARY = "Special tokens that nobody writes may differ, but this one is not special for both."


def shared_ids(student: Renderer, teacher: Renderer, heads: Mapping[str, int]) -> set[int]:
    """Ids that are the same token for two tokenizers, and that all heads have.

    Args:
        heads: rows of the models' heads, by role.

    Raises:
        ModelError: an id that is not can occur; the first one is named.
    """
    ours, theirs = tokens_of(student), tokens_of(teacher)
    known = ours.keys() | theirs.keys()
    differing = {id_ for id_ in known if ours.get(id_) != theirs.get(id_)}
    for id_ in sorted(differing):
        if why := _occurs(id_, student, teacher):
            raise ModelError(
                f"teacher and student need the same tokenizer, but id {id_} is "
                f"{ours.get(id_, '(nothing)')!r} for the student ({len(ours)} tokens) and "
                f"{theirs.get(id_, '(nothing)')!r} for the teacher ({len(theirs)} tokens). {why} "
                "Take two models of one family."
            )
    shared = known - differing
    for role, head in heads.items():
        beyond = {id_ for id_ in shared if id_ >= head}
        if any(_occurs(id_, student, teacher) for id_ in sorted(beyond)):
            raise ModelError(
                f"the {role}'s head has {head} rows, but its tokenizer has ids up to {max(beyond)}."
                " Resize the model's token embeddings to its tokenizer first."
            )
        shared -= beyond
    return shared


def tokens_of(renderer: Renderer) -> dict[int, str]:
    """The tokens of a tokenizer by id."""
    return {id_: token for token, id_ in renderer.tokenizer.get_vocab().items()}


def _occurs(id_: int, *renderers: Renderer) -> str | None:
    """Why an id can occur in a prompt or a completion, or None."""
    if any(id_ in renderer.written for renderer in renderers):
        return WRITTEN
    return None if all(_is_special(renderer, id_) for renderer in renderers) else ORDINARY


def _is_special(renderer: Renderer, id_: int) -> bool:
    """Whether an id is a special token, or none at all."""
    token = renderer.tokenizer.added_tokens_decoder.get(id_)
    return token.special if token else renderer.tokenizer.convert_ids_to_tokens(id_) is None
