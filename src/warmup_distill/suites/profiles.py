"""How a benchmark's models are asked and how they answer; saved with every result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from warmup_distill.models.renderer import Renderer
from warmup_distill.suites.catalogue import SuiteRow

_BELOW = "Below is an instruction that describes a task"
_ALONE = f"{_BELOW}. Write a response that appropriately completes the request."
_PAIRED = (
    f"{_BELOW}, paired with an input that provides further context. Write a response that "
    "appropriately completes the request."
)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Template, decoding and lengths."""

    name: str
    template: Literal["alpaca", "chat"]
    """`alpaca`: plain text in Alpaca's wording; `chat`: the model's own template."""
    temperature: float
    seeds: tuple[int, ...]
    """One completion per prompt and seed; scores are means over them."""
    no_repeat_ngram_size: int | None
    max_prompt_tokens: int | None
    """Longer prompts are cut to their first tokens; with None one that does not fit is an error."""
    max_new_tokens: int | None
    """None takes the suite's own length."""


PROFILES = {
    "paper": Profile(
        name="paper", template="alpaca", temperature=1.0, seeds=(10, 20, 30, 40, 50),
        no_repeat_ngram_size=6, max_prompt_tokens=256, max_new_tokens=256,
    ),
    "clean": Profile(
        name="clean", template="chat", temperature=0.0, seeds=(0,),
        no_repeat_ngram_size=None, max_prompt_tokens=None, max_new_tokens=None,
    ),
}  # fmt: skip
"""`paper` is the protocol of MiniLLM's and DSKD's evaluation scripts, n-gram ban included."""


def alpaca(row: SuiteRow) -> str:
    """A row in Alpaca's wording, as MiniLLM's data has it."""
    if row.input is None:
        return f"{_ALONE}\n\n### Instruction:\n{row.prompt}\n\n### Response:\n"
    return (
        f"{_PAIRED}\n\n### Instruction:\n{row.instruction}\n\n### Input:\n{row.input}"
        "\n\n### Response:\n"
    )


def renderer_of(profile: Profile, tokenizer: Any, **settings: Any) -> Renderer:
    """How a profile puts texts to a model; `settings` are those of a chat template."""
    if profile.template == "chat":
        return Renderer(tokenizer=tokenizer, **settings)
    return Renderer(tokenizer=tokenizer, format="text")


def encode(
    renderer: Renderer, profile: Profile, row: SuiteRow, ask: Callable[[str], str]
) -> list[int]:
    """Ids of a row's prompt; in a chat it is first put the way the suite asks."""
    if profile.template == "chat":
        return renderer.prompt(ask(row.prompt))
    return renderer.plain(alpaca(row))
