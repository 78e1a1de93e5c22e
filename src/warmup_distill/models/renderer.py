"""What people write, as the models read it: prompts and references as token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.foreign.showing import brief
from warmup_distill.models.endings import Ending, turn_ending
from warmup_distill.models.templates import Turns, encode_as_text, render_ids, require_free_names

Format = Literal["chat", "text"]

PROBE = "How many apples are 3 boxes of 12?"


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """A tokenizer, and how its chat template is used.

    Control tokens that people write stay text, in prompts and in references: `<|im_end|>` typed by
    a user does not end their turn.

    Raises:
        ModelError: the format is `chat`, and the tokenizer has no chat template.
        RecipeError: a setting is not a template's to take, or there is no template.
    """

    tokenizer: Any
    format: Format = "chat"
    system: str | None = None
    """A system message, before every prompt."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template takes besides the turns."""

    @classmethod
    def of(cls, tokenizer: Any, **settings: Any) -> Self:
        """In the tokenizer's own format: a chat if it has a template for one."""
        format: Format = "chat" if tokenizer.chat_template else "text"
        return cls(tokenizer=tokenizer, format=format, **settings)

    def __post_init__(self) -> None:
        require_free_names(self.template_kwargs)
        if self.format == "text" and (self.system is not None or self.template_kwargs):
            raise RecipeError(
                "`system` and `chat_template_kwargs` have no effect on plain text: they need a "
                "chat template."
            )
        if self.format == "chat" and not self.tokenizer.chat_template:
            raise ModelError(
                f"a chat needs a chat template, and the tokenizer of {self.tokenizer.name_or_path} "
                "has none. Give it one, or take plain text (prompts.format: text)."
            )

    def prompt(self, text: str) -> list[int]:
        """Ids of a prompt: a user's turn with the assistant's opened, or the text as it is.

        Raises:
            ModelError: the chat template fails.
        """
        if self.format == "text":
            return [*self._opened, *self.plain(text)]
        return render_ids(self.tokenizer, self._turns(text), self.template_kwargs, opened=True)

    def reference(self, text: str) -> list[int]:
        """Ids of a reference as a completion, which ends as the chat template ends a turn.

        Raises:
            ModelError: nothing says how a completion ends.
        """
        if self.end_id is None:
            raise ModelError(
                f"a reference needs an end-of-sequence token, but the tokenizer of "
                f"{self.tokenizer.name_or_path} names none, and no chat template writes one after "
                "an assistant's turn. Set `eos_token` in tokenizer_config.json."
            )
        content = text.strip() if self.ending.trims else text
        return [*self.plain(content + self.ending.text), self.end_id]

    def plain(self, text: str) -> list[int]:
        """Ids of a text by itself, in which control tokens are text.

        Raises:
            ModelError: the tokenizer cannot write one as text.
        """
        plain = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids = list(plain["input_ids"])
        if not self._whole(ids, text):
            return ids
        # Some tokenizers do not call their control tokens special, and then they stay whole.
        ids = encode_as_text(self.tokenizer, text, self._control.values())
        if whole := self._whole(ids, text):
            raise ModelError(
                f"the tokenizer of {self.tokenizer.name_or_path} cannot write {whole[0]!r} as "
                f"text, which is in {brief(text)}. Leave such texts out."
            )
        return ids

    def _whole(self, ids: Sequence[int], text: str) -> list[str]:
        """Control tokens of a text that are tokens among its ids."""
        found = [self._control[id_] for id_ in set(ids) & self._control.keys()]
        return [token for token in found if token in text]

    @cached_property
    def ending(self) -> Ending:
        """How the chat template ends an assistant's turn."""
        if self.format == "text":
            return Ending()
        return turn_ending(self.tokenizer, self._turns(PROBE), self.template_kwargs)

    @cached_property
    def end_id(self) -> int | None:
        """The token that ends a completion: the template's, or else the tokenizer's, if any."""
        found: int | None = self.tokenizer.eos_token_id
        return found if self.ending.id is None else self.ending.id

    @cached_property
    def written(self) -> frozenset[int | None]:
        """Ids that stand in prompts and references beside what people write."""
        return frozenset([*self._opened, self.end_id])

    def _turns(self, text: str) -> Turns:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": text}]

    @cached_property
    def _control(self) -> dict[int, str]:
        """Tokens that are never a text's: special ones, and those that the template writes."""
        around = set(self._opened) - set(self.tokenizer(PROBE)["input_ids"]) | {self.ending.id}
        return {
            id_: token.content
            for id_, token in self.tokenizer.added_tokens_decoder.items()
            if token.special or (id_ in around and not token.content.isspace())
        }

    @cached_property
    def _opened(self) -> list[int]:
        """Ids of a prompt that nobody wrote."""
        if self.format == "text":
            return beginning(self.tokenizer)
        return render_ids(self.tokenizer, self._turns(PROBE), self.template_kwargs, opened=True)


def beginning(tokenizer: Any) -> list[int]:
    """What a tokenizer puts before every text by itself, such as a beginning-of-sequence."""
    alone = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    return list(whole[: whole.index(alone[0])])
