"""rollouts: prompts → student samples, checked and continued by the teacher."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from warmup_distill.cluster.places import Meter
from warmup_distill.engines import Engine
from warmup_distill.engines.choosing import Chosen, Pair, Source, choose
from warmup_distill.engines.fitting import Texts
from warmup_distill.engines.progress import Progress
from warmup_distill.engines.randomness import stream
from warmup_distill.errors import NumbersError, RunError
from warmup_distill.models.holding import Held
from warmup_distill.recipe import RolloutsSection
from warmup_distill.records import Check, Prompt, Rollout, Sample
from warmup_distill.stages.charging import charge_rollouts
from warmup_distill.stages.models_ahead import expected_path
from warmup_distill.stages.session import Session
from warmup_distill.store.artifacts import (
    part_path,
    parts_in,
    read_notes,
    read_parts,
    read_records,
    write_records,
)
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.removing import remove_files

Given = tuple[Sequence[Prompt], Sequence[list[Sample]] | None]
"""Prompts to roll out, and their samples where they were drawn before."""
Paths = dict[str, str]
"""How each model is run, by its role."""
SERVERS = "servers"
"""The note in a part, and in the manifest, that says what servers were found to be."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some prompts, the file of their rollouts, and what that file depends on."""

    prompts: Sequence[Prompt]
    path: Path
    notes: dict[str, str]
    """A digest of what the samples depend on, and one of the check of them besides."""

    @property
    def is_current(self) -> bool:
        return self.notes.items() <= read_notes(self.path).items()

    def samples(self) -> list[list[Sample]] | None:
        """The samples of an earlier check with other settings, which need not be drawn again."""
        if read_notes(self.path).get("samples") != self.notes["samples"]:
            return None
        drawn: dict[str, list[Sample]] = {}
        for rollout in read_records(self.path, Rollout):
            drawn.setdefault(rollout.prompt_id, []).append(rollout.sample)
        return [drawn[prompt.prompt_id] for prompt in self.prompts]


def write_rollouts(session: Session) -> dict[str, Any]:
    """Write rollouts/ part by part, keeping what is there, and return the counts."""
    parts = _parts(session)
    _remove_strays(session.folder / "rollouts", {part.path for part in parts})
    waiting = [part for part in parts if not part.is_current]
    paths = _roll_out_all(session, waiting) if waiting else _expected_paths(session)
    rollouts = [rollout for part in parts for rollout in read_records(part.path, Rollout)]
    charge_rollouts(session, [prompt for part in parts for prompt in part.prompts], rollouts)
    servers = read_notes(parts[-1].path).get(SERVERS) if parts else None
    return {
        "rollouts": len(rollouts),
        "tokens": sum(len(rollout.completion_ids) for rollout in rollouts),
        "mismatching": sum(rollout.mismatch_index is not None for rollout in rollouts),
        "truncated": sum(rollout.finish_reason == "length" for rollout in rollouts),
        "continuation_tokens": sum(len(rollout.continuation_ids or []) for rollout in rollouts),
        "continuations_truncated": sum(
            rollout.continuation_finish_reason == "length" for rollout in rollouts
        ),
        "paths": paths,
    } | ({SERVERS: json.loads(servers)} if servers else {})


def _expected_paths(session: Session) -> Paths:
    names = {"student": session.student_name, "teacher": session.recipe.teacher}
    engine = session.recipe.rollouts.engine.name
    if engine != "transformers":
        return dict.fromkeys(names, engine)
    return {role: expected_path(name) for role, name in names.items()}


def _parts(session: Session) -> list[Part]:
    recipe, settings = session.recipe, session.recipe.rollouts
    prompts = list(read_parts(session.folder / "prompts", Prompt))[: settings.limit]
    before = session.fingerprints
    sampling = [before["prompts"], before["cut"] if recipe.cut else None, recipe.seed,
                recipe.dtype, settings.num_samples, settings.temperature]  # fmt: skip
    if settings.engine.name != "transformers":  # other kernels, other random numbers
        sampling.append(settings.engine.name)
    checking = [session.teacher_ref.dtype, settings.margin_threshold,
                settings.continuation_temperature, settings.stop_at_mismatch]  # fmt: skip
    parts = []
    for number, start in enumerate(range(0, len(prompts), settings.prompts_per_part)):
        group = prompts[start : start + settings.prompts_per_part]
        known = [[prompt.prompt_id, prompt.prompt_ids] for prompt in group]
        samples = digest([sampling, known])
        notes = {"samples": samples, "check": digest([samples, checking])}
        path = part_path(session.folder / "rollouts", number)
        parts.append(Part(prompts=group, path=path, notes=notes))
    return parts


def _remove_strays(folder: Path, expected: set[Path]) -> None:
    """Remove the parts of other settings whose places no part will take.

    Raises:
        RunError: a file has the name of a part, and is none.
    """
    for path in parts_in(folder):
        if not {"samples", "check"} <= read_notes(path).keys():
            raise RunError(f"{path} is no part of any rollouts, or not whole. Move it away.")
        if path not in expected:
            remove_files([path], above=folder)


@dataclass(frozen=True, kw_only=True)
class RollOut:
    """A task: the rollouts of some prompts, and how each model was run."""

    source: Source
    settings: RolloutsSection
    seed: int

    def __call__(self, item: Given, held: Held, meter: Meter) -> tuple[list[Rollout], Paths]:
        prompts, samples = item
        engine = self.source.engine(held, meter.advance)
        rollouts = roll_out(engine, prompts, self.settings, self.seed, samples, meter.settle)
        return rollouts, self.source.paths(held)


class _Given(Sequence[Given]):
    """What each part is computed from; earlier samples are read when their turn comes."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: Any) -> Any:
        return self.parts[number].prompts, self.parts[number].samples()


def _roll_out_all(session: Session, parts: Sequence[Part]) -> Paths:
    """Roll out what is waiting; returns how each model was run."""
    settings = session.recipe.rollouts
    refs = session.ref(session.student_name), session.teacher_ref
    ids = [prompt.prompt_ids for part in parts for prompt in part.prompts]
    texts = Texts.of(ids, settings.max_new_tokens, settings.num_samples)
    batching = session.batching("rollouts", settings.batch_tokens, refs, texts)
    with Progress("rollouts", _most_tokens(settings, parts)) as progress:
        return batching.run(partial(_write, session, parts), progress)


def _write(session: Session, parts: Sequence[Part], batch_tokens: int, meter: Meter) -> Paths:
    """Roll out the parts that are not there."""
    settings = session.recipe.rollouts
    waiting = [part for part in parts if not part.is_current]
    meter.settle(_most_tokens(settings, parts) - _most_tokens(settings, waiting))
    source, servers = _source(session, waiting, batch_tokens, meter)
    known = {SERVERS: json.dumps(servers)} if servers else {}
    task = RollOut(source=source, settings=settings, seed=session.recipe.seed)
    paths: Paths = {}
    for number, found in session.place.compute(task, _Given(waiting), meter):
        rollouts, paths = found
        write_records(waiting[number].path, Rollout, rollouts, waiting[number].notes | known)
    return paths


def _source(session: Session, parts: Sequence[Part], batch_tokens: int, meter: Meter) -> Chosen:
    """The recipe's engine, tried; and what was found out about servers."""
    cluster = session.recipe.cluster
    models = Pair(
        student=session.ref(session.student_name),
        teacher=session.teacher_ref,
        vocabulary=session.vocabulary,
        batch_tokens=batch_tokens,
    )
    prompts = [prompt.prompt_ids for part in parts for prompt in part.prompts]
    workers = cluster.num_workers if cluster else 1
    return choose(session.recipe.rollouts, models, prompts, session.place, workers, meter)


def _most_tokens(settings: RolloutsSection, parts: Sequence[Part]) -> int:
    """Every token counts at the most three times: sampled, checked, and drawn by the teacher."""
    longest = settings.num_samples * settings.max_new_tokens
    return 3 * longest * sum(len(part.prompts) for part in parts)


def roll_out(
    engine: Engine,
    prompts: Sequence[Prompt],
    settings: RolloutsSection,
    seed: int,
    samples: Sequence[list[Sample]] | None = None,
    settled: Callable[[int], object] = lambda tokens: None,
) -> list[Rollout]:
    """Sample, check and continue: the rollouts of some prompts, N for each, in order.

    Source: Warmup-Distill, arXiv:2502.11766, steps 1 to 3.

    Args:
        samples: of each prompt, if they were drawn before.
        settled: called with the tokens that the work just done takes at the most; that is three
            times `max_new_tokens` for each completion in the end.

    Raises:
        NumbersError: a log-probability is not finite; the prompts are named.
    """
    ids = [prompt.prompt_ids for prompt in prompts]
    results: dict[int, list[Rollout]] = {}
    for batch in engine.batches(ids, settings.num_samples, settings.max_new_tokens):
        some = [prompts[i] for i in batch]
        drawn = None if samples is None else [samples[i] for i in batch]
        try:
            rollouts = _roll_out_batch(engine, some, settings, seed, drawn, settled)
        except NumbersError as error:
            names = ", ".join(prompt.prompt_id for prompt in some)
            raise NumbersError(f"{error} It came with the prompts {names}.") from error
        results |= dict(zip(batch, rollouts, strict=True))
    return [rollout for index in range(len(prompts)) for rollout in results[index]]


def _roll_out_batch(
    engine: Engine,
    prompts: Sequence[Prompt],
    settings: RolloutsSection,
    seed: int,
    samples: Sequence[list[Sample]] | None,
    settled: Callable[[int], object],
) -> list[list[Rollout]]:
    def streams(role: str) -> list[list[int]]:
        numbers = range(settings.num_samples)
        return [[stream(seed, role, prompt.prompt_id, i) for i in numbers] for prompt in prompts]

    ids = [prompt.prompt_ids for prompt in prompts]
    if samples is None:
        samples = engine.sample(
            ids,
            streams("student"),
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
        )
    most, drawn = settings.max_new_tokens, [len(one.ids) for one in chain(*samples)]
    settled(sum(2 * most - length for length in drawn))  # no more are checked than were drawn
    checks = engine.check_and_continue(
        ids,
        samples,
        streams("teacher"),
        margin_threshold=settings.margin_threshold,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.continuation_temperature,
        stop_at_mismatch=settings.stop_at_mismatch,
    )
    settled(sum(most + length for length in drawn))
    return [
        [
            _rollout(prompt.prompt_id, i, sample, check)
            for i, (sample, check) in enumerate(zip(*group, strict=True))
        ]
        for prompt, group in zip(prompts, zip(samples, checks, strict=True), strict=True)
    ]


def _rollout(prompt_id: str, sample_index: int, sample: Sample, check: Check) -> Rollout:
    ending = check.continuation
    return Rollout(
        prompt_id=prompt_id,
        sample_index=sample_index,
        completion_ids=sample.ids,
        student_logprobs=sample.logprobs,
        teacher_logprobs=check.teacher_logprobs,
        mismatch_index=check.mismatch_index,
        margin=check.margin,
        continuation_ids=ending.ids if ending else None,
        continuation_ref_logprobs=check.continuation_ref_logprobs,
        finish_reason=sample.finish_reason,
        continuation_finish_reason=ending.finish_reason if ending else None,
        scored=check.scored,
    )
