"""A server tried before it is relied on: what it serves, and how far it is from the model here."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from warmup_distill.cluster.places import Meter
from warmup_distill.engines.paths import packed_model
from warmup_distill.engines.served import BIAS, Served
from warmup_distill.engines.wire import Address, RefusalError, Wire, connected
from warmup_distill.errors import RunError
from warmup_distill.foreign.reading import reading
from warmup_distill.foreign.showing import listed
from warmup_distill.models.fitting import fits_here
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import locate
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.records import Sample

logger = logging.getLogger(__name__)

PROBED = 48
"""Tokens on which a server is compared with the model here."""
TEMPERATURE = 0.7
"""Another one than 1, so that tempered log-probabilities are told from raw ones."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A server, and what it is compared with."""

    address: Address
    model: ModelRef
    prompt: list[int]
    tokens: int
    """Of the completion on which they are compared."""
    longest: int
    """Tokens of a prompt and its completion at the most."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a server serves, and what goes into the manifest about it."""

    address: Address
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Probing:
    """A task: look at one server.

    Raises:
        RunError: it is not what it should be, or off by more than the tolerance.
    """

    vocabulary: Vocabulary
    tolerance: float

    def __call__(self, item: Question, held: Held, meter: Meter) -> Found:
        found, drawn, again = asyncio.run(self._look(item))
        self._compare(
            drawn.logprobs, again,
            f"{item.address} gives tokens that it draws other log-probabilities than when it "
            "scores them. It should give raw ones, and keep no prompts",
            item.address,
        )  # fmt: skip
        facts: dict[str, Any] = found.facts | {"tokens": len(drawn.ids), "compared_with": None}
        if why := _not_here(item):
            logger.warning("%s is not compared with the model here: %s", item.address, why)
            return replace(found, facts=facts | {"why": why})
        apart = self._compare(
            drawn.logprobs, score_here(item.model, self.vocabulary, item.prompt, drawn.ids, held),
            f"{item.address} does not give the log-probabilities of {item.model.name} in "
            f"{item.model.dtype} here. It should hold that model, in that dtype",
            item.address,
        )  # fmt: skip
        return replace(found, facts=facts | {"compared_with": item.model.dtype} | apart)

    async def _look(self, item: Question) -> tuple[Found, Sample, list[float]]:
        """What the server says it is; a completion of its own, and its score of that."""
        async with connected(item.address) as wire:
            facts = await _named(wire, item.longest)
            address = replace(item.address, name=facts["model"])
            endless = replace(self.vocabulary, eos_ids=frozenset())  # so that there is enough of it
            served = Served(wire=replace(wire, address=address), vocabulary=endless)
            await _try_bans(served, item.prompt)
            # Something is banned, so that log-probabilities after a bias are told from raw ones.
            first = await served.draw(item.prompt, 0, max_new_tokens=1, temperature=0.0)
            drawn = await served.draw(
                item.prompt, 0,
                max_new_tokens=item.tokens, temperature=TEMPERATURE, banned=first.ids,
            )  # fmt: skip
            again = await served.score(item.prompt, drawn.ids)
        return Found(address=address, facts=facts), drawn, again

    def _compare(
        self, theirs: list[float], others: list[float], what: str, address: Address
    ) -> dict[str, float]:
        """Mean and largest difference; a RunError that begins with `what` if that is too large."""
        apart = [abs(a - b) for a, b in zip(theirs, others, strict=True)]
        largest, mean = max(apart), sum(apart) / len(apart)
        if largest > self.tolerance:
            raise RunError(
                f"{what}: `{address.command}`. Of {len(apart)} tokens they differ by {mean:.4g} "
                f"nats on average and {largest:.4g} at the most; {address.names['tolerance']} is "
                f"{self.tolerance:g}."
            )
        return {"mean_difference": round(mean, 7), "largest_difference": round(largest, 7)}


async def _named(wire: Wire, longest: int) -> dict[str, Any]:
    """Name, version and context of the model that is meant."""
    address = wire.address
    answer = await wire.get("/v1/models")
    with reading(RunError, f"{address}: expected a list of models from /v1/models"):
        models = {str(one["id"]): dict(one) for one in answer["data"]}
        name = address.name or _meant(address.expected, models)
    if name not in models:
        raise RunError(
            f"{address} serves {listed(models) or 'nothing'}, and not "
            f"{name or address.expected}. Name the model in "
            f"{address.names['model']}, or start it: `{address.command}`"
        )
    context = models[name].get("max_model_len")
    if isinstance(context, int) and context <= longest:  # scoring draws one token besides
        raise RunError(
            f"{address} reads {context} tokens, but prompts and completions have up to "
            f"{longest}, and one more is needed. Start it with --max-model-len {longest + 1}, "
            "or lower rollouts.max_new_tokens."
        )
    return {"model": name, "vllm": await _version(wire)}


async def _try_bans(served: Served, prompt: Sequence[int]) -> None:
    """Every id that can be banned is one of the server's, and none beyond the head is."""
    address = served.wire.address
    asked = {"prompt": prompt, "max_tokens": 1, "temperature": 0.0}
    last = [*served.never, address.head - 1]
    try:
        await served.ask(asked | {"logit_bias": {str(token): BIAS for token in last}})
    except RefusalError as error:
        raise RunError(
            f"{error} The head of {address.expected} has {address.head} rows: does the server "
            "hold another model?"
        ) from error
    try:
        await served.ask(asked | {"logit_bias": {str(address.head): BIAS}})
    except RefusalError:
        return
    raise RunError(
        f"{address} knows a token {address.head}, but the head of {address.expected} has "
        f"{address.head} rows: it holds another model. Start it: `{address.command}`"
    )


@torch.inference_mode()
def score_here(
    ref: ModelRef, vocabulary: Vocabulary, prompt: list[int], ids: list[int], held: Held
) -> list[float]:
    """The log-probability of each token of a completion under a model in this process."""
    (model,) = held.take(ref)
    packed = packed_model(model, vocabulary)
    with packed.following():
        hidden, targets = packed.completion_hidden([prompt], [ids])
        found: list[float] = packed.logprobs(hidden, targets).tolist()
    return found


def _meant(expected: str, models: dict[str, dict[str, Any]]) -> str | None:
    """The only model there is, or the one of several that has the name or comes from the folder."""
    if len(models) == 1:
        return next(iter(models))
    alike = [name for name, one in models.items() if expected in (name, one.get("root"))]
    return alike[0] if len(alike) == 1 else None


async def _version(wire: Wire) -> str | None:
    """Of vLLM; None where the server will not say."""
    try:
        return str((await wire.get("/version"))["version"])
    except (RunError, KeyError):
        return None


def _not_here(item: Question) -> str | None:
    """Why the model is not loaded to be compared; None if it is.

    A student is needed here anyway, later on. Others may be on their servers alone.
    """
    name, dtype = item.model.name, item.model.dtype
    if item.address.role != "student" and not Path(locate(name)).is_dir():
        return f"{name} is no folder on this machine"
    if not fits_here(name, dtype):
        return f"{name} in {dtype} takes more than half of the free memory"
    return None
