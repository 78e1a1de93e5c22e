"""How many tokens are in memory at one time: as many as fit, and half of them where memory ran out.

The choice decides which completions are drawn side by side, and with it the last bits of their
log-probabilities. So it is made once for some work, before its parts are, from one process's share
of a machine, and kept with the work: a second start, with other workers too, changes nothing of it.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from warmup_distill.cluster.places import Meter
from warmup_distill.errors import ShortOfMemoryError
from warmup_distill.recipe.section import TokenCount

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A number of tokens, and where it came from."""

    tokens: int
    asked: TokenCount
    computed_from: dict[str, Any] = field(default_factory=dict)
    """Empty for a number that was given."""
    halved: bool = False
    """Whether memory ran out."""

    @classmethod
    def known(cls, kept: Any, asked: TokenCount) -> "Chosen | None":
        """What `asdict` gave when the same was asked before; None if something else was."""
        if not isinstance(kept, dict) or kept.get("asked") != asked:
            return None
        return cls(**kept) if kept.keys() == cls.__dataclass_fields__.keys() else None


class Batching:
    """The tokens at one time of some work, which are halved once if they do not fit after all.

    Args:
        chosen: for a start.
        keep: is told what they are now.
    """

    def __init__(
        self, chosen: Chosen, keep: Callable[[dict[str, Any]], object] = lambda chosen: None
    ) -> None:
        self.chosen = chosen
        self._keep = keep

    def run(self, work: Callable[[int, Meter], Result], meter: Meter) -> Result:
        """The result of some work that is given the tokens; with half of them if memory ran out.

        Args:
            work: leaves out what it has done before, but counts it.
            meter: hears of what counts in the end.

        Raises:
            ShortOfMemoryError: half of them are too many, or they were halved before.
        """
        counted = _Counted(meter)
        try:
            return work(self.chosen.tokens, counted)
        except ShortOfMemoryError as error:
            if self.chosen.halved or self.chosen.tokens < 2:
                raise ShortOfMemoryError(
                    f"{error}, with {self.chosen.tokens:,} tokens at once. Give batch_tokens a "
                    "smaller number, or take a model or a dtype of fewer bytes"
                ) from None
            said = str(error)
        counted.take_back()
        self.chosen = replace(self.chosen, tokens=self.chosen.tokens // 2, halved=True)
        self._keep(asdict(self.chosen))
        logger.warning(
            "memory ran out (%s): going on with %d tokens at once, half as many", said,
            self.chosen.tokens,
        )  # fmt: skip
        return self.run(work, meter)


class _Counted:
    """A meter that passes on what it hears, and can take it back."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._advanced = self._settled = 0

    def advance(self, tokens: int) -> None:
        self._advanced += tokens
        self._meter.advance(tokens)

    def settle(self, tokens: int) -> None:
        self._settled += tokens
        self._meter.settle(tokens)

    def take_back(self) -> None:
        self._meter.advance(-self._advanced)
        self._meter.settle(-self._settled)
