"""What a server of vLLM is asked, and how its answers are read: token ids in and out.

All log-probabilities are raw: untempered, and without the bans. They are normalised over the rows
of the head, padding included, which nothing can change from here; see docs/vllm.md.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from warmup_distill.engines.randomness import stream
from warmup_distill.engines.wire import Wire
from warmup_distill.errors import NumbersError, RunError
from warmup_distill.foreign.reading import reading
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Sample

COMPLETIONS = "/v1/completions"
NEUTRAL: dict[str, Any] = {
    "n": 1, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_tokens": 0, "stop": [],
    "skip_special_tokens": False, "return_token_ids": True,
}  # fmt: skip
"""A server's own defaults come from the model's generation configuration, where nothing is said."""
BIAS = -100.0
"""Added to the logit of a token that may not come: the lowest that the API takes."""
CLAMPED = -9999.0
"""How the API writes minus infinity."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model on a server."""

    wire: Wire
    vocabulary: Vocabulary

    async def draw(
        self,
        prompt: Sequence[int],
        key: int,
        *,
        max_new_tokens: int,
        temperature: float,
        banned: Collection[int] = (),
    ) -> Sample:
        """One completion.

        A bias holds for a whole request. So a token before which something is banned is asked for
        by itself; and where a token is drawn that none may draw, it is drawn again in this way,
        which leaves each other token its share.

        Args:
            key: of its random stream; each request has a seed of its own, by its place.
            banned: may not be the first token.
        """
        ids: list[int] = []
        logprobs: list[float] = []
        while len(ids) < max_new_tokens:
            drawn, values = await self._complete(
                [*prompt, *ids],
                max_tokens=1 if banned else max_new_tokens - len(ids),
                temperature=temperature,
                seed=stream(key, len(ids)) >> 1,  # the API's are signed
                logit_bias={str(token): BIAS for token in sorted(banned)},
            )
            good = next((i for i, token in enumerate(drawn) if self._never(token)), len(drawn))
            if banned and (drawn[0] in banned or drawn[0] >= self.wire.address.head):
                raise self._fault(f"it draws token {drawn[0]} in spite of a bias of {BIAS:g}")
            ids += drawn[:good]
            logprobs += values[:good]
            if good == len(drawn):
                if drawn[-1] in self.vocabulary.eos_ids:
                    return Sample(ids=ids, logprobs=logprobs, finish_reason="eos")
                banned = ()
            else:
                banned = {*self.never, *(banned if not ids else ())}
        return Sample(ids=ids, logprobs=logprobs, finish_reason="length")

    async def score(self, prompt: Sequence[int], completion: Sequence[int]) -> list[float]:
        """The log-probability of each token of a completion."""
        whole = [*prompt, *completion]
        choice = await self.ask({"prompt": whole, "max_tokens": 1, "temperature": 0.0,
                                 "prompt_logprobs": 0})  # fmt: skip
        with reading(RunError, str(self._fault("its prompt_logprobs cannot be read"))):
            rows = choice["prompt_logprobs"]
            if len(rows) != len(whole):
                raise ValueError(f"{len(rows)} for {len(whole)} tokens")
            after = zip(completion, rows[len(prompt) :], strict=True)
            values = [float(row[str(token)]["logprob"]) for token, row in after]
        return self._finite(values)

    @property
    def never(self) -> list[int]:
        """Ids of the head that no completion may hold."""
        return [
            *sorted(self.vocabulary.banned_ids),
            *range(self.vocabulary.size, self.wire.address.head),
        ]

    async def ask(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The one choice that answers a request."""
        answer = await self.wire.post(
            COMPLETIONS, NEUTRAL | {"model": self.wire.address.name} | settings
        )
        with reading(RunError, str(self._fault("its answer cannot be read"))):
            (choice,) = answer["choices"]
            return dict(choice)

    async def _complete(
        self, prompt: Sequence[int], *, max_tokens: int, **settings: Any
    ) -> tuple[list[int], list[float]]:
        """Tokens up to an end or `max_tokens`, and their log-probabilities."""
        ends = self.vocabulary.eos_ids
        choice = await self.ask(
            {"prompt": prompt, "max_tokens": max_tokens, "logprobs": 0, "ignore_eos": True,
             "stop_token_ids": sorted(ends), **settings}
        )  # fmt: skip
        with reading(RunError, str(self._fault("its answer cannot be read"))):
            ids = [int(token) for token in choice["token_ids"]]
            values = [float(value) for value in choice["logprobs"]["token_logprobs"]]
        if len(ids) != len(values) or not ids or ends.intersection(ids[:-1]):
            raise self._fault("its token_ids and token_logprobs do not fit together")
        if ids[-1] not in ends and len(ids) != max_tokens:
            raise self._fault(
                f"it stops after {len(ids)} of {max_tokens} tokens, at none that ends a completion "
                f"({sorted(ends)}); is its context or its longest answer shorter?"
            )
        return ids, self._finite(values)

    def _never(self, token: int) -> bool:
        return token >= self.vocabulary.size or token in self.vocabulary.banned_ids

    def _finite(self, values: list[float]) -> list[float]:
        if not all(CLAMPED < value < math.inf for value in values):  # false of nan too
            raise NumbersError(
                f"{self.wire.address} gives log-probabilities that are not finite: its weights are "
                "broken, or overflow in its dtype."
            )
        return values

    def _fault(self, what: str) -> RunError:
        return RunError(
            f"{self.wire.address}: {what}. Expected vLLM's OpenAI-compatible server, started with "
            f"`{self.wire.address.command}`."
        )
