"""How a chat template ends an assistant's turn, found by looking at what it writes.

`tokenizer.eos_token` often is another token: Gemma ends a turn with `<end_of_turn>`, Phi-3 with
`<|end|>`, while their tokenizers name `<eos>` and `<|endoftext|>`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from warmup_distill.errors import ModelError
from warmup_distill.models.templates import Turns, render_text

FIRST, SECOND = "thirty-six apples", "And how many are 4 boxes?"
EDGE = "\t\n"
"""Around the answer, to see whether a template trims it."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What follows the content of an assistant's turn, up to the token that ends it."""

    text: str = ""
    """Between the content and that token, such as a space."""
    id: int | None = None
    """None where the template writes no such token."""
    trims: bool = False
    """Whether the template takes white space off the content."""


def turn_ending(tokenizer: Any, asked: Turns, settings: Mapping[str, Any]) -> Ending:
    """How the tokenizer's chat template ends an assistant's turn.

    The token that follows the answer both where the conversation ends and where the user goes on.
    If there is none, then what follows at the end of a conversation alone, unless that is the
    header of a next turn, which some templates write unasked.

    Args:
        asked: a conversation that ends with a user's turn.
        settings: what the template takes besides.
    """
    ended, going_on = (_rendered(tokenizer, turns, settings) for turns in continued(asked))
    if ended is None or FIRST not in ended:
        return Ending()
    header, _, tail = ended.rpartition(asked[-1]["content"])[2].partition(FIRST)
    later = tail if going_on is None else going_on.rpartition(FIRST)[2].partition(SECOND)[0]
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(tail, later, strict=False))
    if (found := _first_token(tokenizer, "".join(one for one, _ in alike))).id is not None:
        return found
    unasked = header.removesuffix(EDGE).endswith(tail.removeprefix(EDGE))
    return found if unasked else _first_token(tokenizer, tail)


def continued(asked: Turns) -> tuple[Turns, Turns]:
    """A conversation with an answer, and with another question after that."""
    answered = [*asked, {"role": "assistant", "content": f"{EDGE}{FIRST}{EDGE}"}]
    return answered, [*answered, {"role": "user", "content": SECOND}]


def _rendered(tokenizer: Any, turns: Turns, settings: Mapping[str, Any]) -> str | None:
    """The conversation as text, or None where the template does not take it."""
    try:
        return render_text(tokenizer, turns, settings, opened=False)
    except ModelError:
        return None


def _first_token(tokenizer: Any, after: str) -> Ending:
    """The first control token of what follows the content, with the text before it."""
    trims, after = not after.startswith(EDGE), after.removeprefix(EDGE)
    known = {
        token.content: (id_, token.lstrip)
        for id_, token in tokenizer.added_tokens_decoder.items()
        if not token.content.isspace()
    }
    longest_first = sorted(known, key=len, reverse=True)
    found = re.search("|".join(map(re.escape, longest_first)) or "(?!)", after)
    if found is None:
        return Ending(trims=trims)
    id_, eats_space = known[found.group()]
    between = after[: found.start()]
    return Ending(text=between.rstrip() if eats_space else between, id=id_, trims=trims)
