"""Which engine computes rollouts: a line here for each that the recipe can name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from warmup_distill.cluster.places import Meter, Place
from warmup_distill.engines import Engine
from warmup_distill.engines.paths import path_of
from warmup_distill.engines.probing import PROBED, Probing, Question
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.engines.vllm import VllmEngine
from warmup_distill.engines.wire import Address, Role, key_of, names_in_recipe, require_httpx
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import load_config, locate
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import RolloutsSection
from warmup_distill.recipe.engine import EngineSection


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Student and teacher, and what engines need to know of them."""

    student: ModelRef
    teacher: ModelRef
    vocabulary: Vocabulary
    batch_tokens: int
    """Whose keys and values each model holds at one time, where it is in memory."""


class Source(Protocol):
    """What makes an engine in any process: a frozen dataclass, for it may be sent there."""

    def engine(self, held: Held, advance: Callable[[int], object]) -> Engine:
        """An engine in this process."""

    def paths(self, held: Held) -> dict[str, str]:
        """How each model is run, in words, by its role."""


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """See `Source`: both models in the memory of the process."""

    pair: Pair

    def engine(self, held: Held, advance: Callable[[int], object]) -> Engine:
        """See `Source.engine`."""
        student, teacher = held.take(self.pair.student, self.pair.teacher)
        vocabulary, tokens = self.pair.vocabulary, self.pair.batch_tokens
        return TransformersEngine(student, teacher, vocabulary, tokens, advance)

    def paths(self, held: Held) -> dict[str, str]:
        """See `Source.paths`."""
        student, teacher = held.take(self.pair.student, self.pair.teacher)
        return {"student": str(path_of(student)), "teacher": str(path_of(teacher))}


@dataclass(frozen=True, kw_only=True)
class OnServers:
    """See `Source`: nothing but addresses."""

    student: Address
    teacher: Address
    vocabulary: Vocabulary

    def engine(self, held: Held, advance: Callable[[int], object]) -> Engine:
        """See `Source.engine`."""
        held.take()
        return VllmEngine(self.student, self.teacher, self.vocabulary, advance)

    def paths(self, held: Held) -> dict[str, str]:
        """See `Source.paths`."""
        return {"student": "vllm", "teacher": "vllm"}


Chosen = tuple[Source, dict[str, Any]]
"""What makes the engine, and what was found about it, for the manifest."""


def require_engine(settings: EngineSection) -> None:
    """Raise a RunError if what an engine needs besides models is not installed or not set."""
    if settings.name == "vllm":
        require_httpx()
        key_of(settings.api_key_env)


def choose(
    settings: RolloutsSection, pair: Pair, prompts: Sequence[list[int]], place: Place,
    workers: int, meter: Meter,
) -> Chosen:  # fmt: skip
    """The engine that the recipe names, found to work.

    Args:
        prompts: token ids of all that will be rolled out.
        place: where servers are tried from.
        workers: processes that share the requests in flight.

    Raises:
        RunError: a server is not there, or not what it should be.
    """
    return ENGINES[settings.engine.name](settings, pair, prompts, place, workers, meter)


def _in_process(settings: RolloutsSection, pair: Pair, *_: Any) -> Chosen:
    return InProcess(pair=pair), {}


def _on_servers(
    settings: RolloutsSection, pair: Pair, prompts: Sequence[list[int]], place: Place,
    workers: int, meter: Meter,
) -> Chosen:  # fmt: skip
    engine = settings.engine
    roles: list[tuple[Role, ModelRef]] = [("student", pair.student), ("teacher", pair.teacher)]
    questions = [
        Question(
            address=_address(role, ref, engine, workers),
            model=ref,
            prompt=prompts[0],
            tokens=min(PROBED, settings.max_new_tokens),
            longest=max(map(len, prompts)) + settings.max_new_tokens,
        )
        for role, ref in roles
    ]
    probing = Probing(vocabulary=pair.vocabulary, tolerance=engine.tolerance)
    found = dict(place.compute(probing, questions, meter))
    student, teacher = found[0], found[1]
    source = OnServers(student=student.address, teacher=teacher.address, vocabulary=pair.vocabulary)
    return source, {"student": student.facts, "teacher": teacher.facts}


ENGINES: dict[str, Callable[..., Chosen]] = {"transformers": _in_process, "vllm": _on_servers}


def _address(role: Role, ref: ModelRef, settings: EngineSection, workers: int) -> Address:
    return Address(
        role=role,
        url=getattr(settings, role),
        expected=locate(ref.name),
        dtype=ref.dtype,
        head=load_config(ref.name).get_text_config().vocab_size,
        name=getattr(settings, f"{role}_model"),
        timeout=settings.timeout,
        concurrency=max(1, settings.concurrency // workers),
        key_env=settings.api_key_env,
        names=names_in_recipe(role),
    )
