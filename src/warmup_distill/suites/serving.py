"""A model that a server of vLLM holds, so that nothing is drawn in process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from warmup_distill.cluster.places import Meter, Place
from warmup_distill.engines.probing import PROBED, Probing, Question
from warmup_distill.engines.wire import NAMES_OF_OPTIONS, Address, key_of, require_httpx
from warmup_distill.errors import RunError
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.loading import load_config, locate
from warmup_distill.recipe.engine import EngineSection, address_of
from warmup_distill.suites.evaluating import Subject
from warmup_distill.suites.profiles import Profile

AT_ONCE = 65_536
"""Tokens of prompts and completions that are asked for, and then kept, together."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """What the command line says of it."""

    url: str
    model: str | None = None
    """Its name there; found by itself where one model is served."""
    key_env: str | None = None
    """Environment variable that holds the key."""

    def require(self, profile: Profile) -> None:
        """Raise a RunError if it cannot be asked, or cannot draw as a profile wants it."""
        try:
            address_of(self.url)
        except ValueError as error:
            raise RunError(f"--server: {error}, got {self.url}") from error
        require_httpx()
        key_of(self.key_env, NAMES_OF_OPTIONS["key"])
        if profile.no_repeat_ngram_size:
            raise RunError(
                f"the profile {profile.name} bans repeated n-grams, which a server of vLLM cannot. "
                "Leave out --server, or take --profile clean."
            )

    def address(self, model: ModelRef, workers: int) -> Address:
        """Where the model is asked."""
        usual = EngineSection.model_fields
        return Address(
            role="model",
            url=address_of(self.url),
            expected=locate(model.name),
            dtype=model.dtype,
            head=load_config(model.name).get_text_config().vocab_size,
            name=self.model,
            timeout=usual["timeout"].default,
            concurrency=max(1, usual["concurrency"].default // workers),
            key_env=self.key_env,
            names=NAMES_OF_OPTIONS,
        )


def on_server(
    subjects: Sequence[Subject], address: Address, place: Place, meter: Meter
) -> tuple[list[Subject], dict[str, Any]]:
    """The subjects, asked on a server that was tried; and what was found about it.

    Args:
        subjects: one model on some suites.

    Raises:
        RunError: the server is not there, or not what it should be.
    """
    first = subjects[0]
    question = Question(
        address=address,
        model=first.model,
        prompt=first.asked[0],
        tokens=min(PROBED, first.longest),
        longest=max(one.longest + max(map(len, one.asked)) for one in subjects),
    )
    tolerance = EngineSection.model_fields["tolerance"].default
    probing = Probing(vocabulary=first.vocabulary, tolerance=tolerance)
    ((_, found),) = place.compute(probing, [question], meter)
    return [replace(one, server=found.address) for one in subjects], found.facts
