"""Facts about a run's models and data, with everything that is wrong with them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from warmup_distill.cluster.starting import require_ray
from warmup_distill.data.prompting import read_prompts
from warmup_distill.data.sources import read_rows
from warmup_distill.errors import ModelError, WarmupDistillError
from warmup_distill.foreign.reading import reading
from warmup_distill.foreign.showing import brief
from warmup_distill.models.chat import decode_prompt
from warmup_distill.models.loading import causal_config, context_of
from warmup_distill.models.sizes import Sizes, sizes_of
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.pipeline import require_fitting, require_folder
from warmup_distill.recipe import Benchmark, Source
from warmup_distill.recipe.batches import require_shares
from warmup_distill.records import Prompt
from warmup_distill.stages.evaluate import require_gold
from warmup_distill.stages.models_ahead import expected_path, require_models
from warmup_distill.stages.rows_ahead import require_rows
from warmup_distill.stages.session import Session
from warmup_distill.training.asked import require_sharding

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Sizes):
    """The size of a model, from its configuration alone."""

    name: str
    kind: str
    context: int
    path: str
    """How it is run: by the token tree, or plainly and why."""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Prompts that were read and encoded."""

    origin: str
    prompts: Sequence[Prompt]
    dropped: int

    @property
    def lengths(self) -> list[int]:
        return sorted(len(prompt.prompt_ids) for prompt in self.prompts)

    @property
    def without_reference(self) -> int:
        """Prompts without one, where others have one."""
        bare = sum(prompt.reference is None for prompt in self.prompts)
        return bare if bare < len(self.prompts) else 0

    @property
    def median(self) -> float:
        return statistics.median(self.lengths)


@dataclass(kw_only=True)
class Facts:
    """What is known of a run; None where a problem stands in the way."""

    teacher: ModelFacts | None = None
    student: ModelFacts | None = None
    vocabulary: Vocabulary | None = None
    data: DataFacts | None = None
    benchmarks: dict[str, DataFacts] = field(default_factory=dict)
    first_prompt: str | None = None
    problems: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], Found]) -> Found | None:
        """The result, or None with the problem noted; each is noted once."""
        try:
            return work()
        except WarmupDistillError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return None


def gather(session: Session) -> Facts:
    """Look at everything that needs no weights."""
    recipe, facts = session.recipe, Facts()
    if recipe.cluster:
        workers = recipe.cluster.num_workers
        facts.attempt(require_ray)
        facts.attempt(lambda: require_shares(recipe, workers))
    facts.attempt(lambda: require_sharding(recipe))
    facts.attempt(lambda: require_models(recipe))
    facts.teacher = facts.attempt(lambda: model_facts(recipe.teacher))
    facts.student = facts.attempt(lambda: model_facts(recipe.student))
    if not facts.teacher or not facts.student:
        # Whatever is asked of them next would fail for the same reason; rows can be read still.
        for source in (recipe.prompts, *recipe.evaluate.benchmarks):
            if source.file:
                facts.attempt(lambda source=source: read_rows(source))  # type: ignore[misc]
        return facts
    facts.vocabulary = facts.attempt(lambda: session.vocabulary)
    if facts.attempt(lambda: session.tokenizer) is None:
        return facts
    length = recipe.rollouts.max_new_tokens
    facts.data = facts.attempt(lambda: _read(session, recipe.prompts, length))
    facts.attempt(lambda: require_folder(session.folder))
    facts.attempt(lambda: require_fitting(session))
    if facts.data:
        prompts = facts.data.prompts
        facts.attempt(lambda: require_rows(session, prompts))
        facts.first_prompt = decode_prompt(session.tokenizer, facts.data.prompts[0].prompt_ids)
    for one in recipe.evaluate.benchmarks:
        found = facts.attempt(lambda one=one: _read_benchmark(session, one))  # type: ignore[misc]
        if found:
            facts.benchmarks[one.name] = found
    return facts


def model_facts(name: str) -> ModelFacts:
    """The size of a model; its weights are not touched."""
    config = causal_config(name)
    kind = brief(config.model_type)
    with reading(ModelError, f"{name} is no causal language model of a known kind ({kind})"):
        return _facts(name, config)


def _facts(name: str, config: Any) -> ModelFacts:
    return ModelFacts(
        **vars(sizes_of(config)),
        name=name,
        kind=str(config.model_type),
        context=context_of(config),
        path=expected_path(name),
    )


def _read_benchmark(session: Session, benchmark: Benchmark) -> DataFacts:
    length = benchmark.max_new_tokens or session.recipe.rollouts.max_new_tokens
    found = _read(session, benchmark, length)
    require_gold(benchmark, found.prompts)
    return found


def _read(session: Session, source: Source, max_new_tokens: int) -> DataFacts:
    prompts, dropped = read_prompts(
        source, session.renderer, context=session.context, max_new_tokens=max_new_tokens
    )
    origin = str(source.file or source.dataset)
    return DataFacts(origin=origin, prompts=prompts, dropped=dropped)
