"""rollouts: prompts → student samples, checked and continued by the teacher."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from warmup_distill.artifacts import part_path, read_parts, read_records, write_records
from warmup_distill.config import RolloutsSection
from warmup_distill.engines import Engine
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.randomness import stream
from warmup_distill.records import Check, Prompt, Rollout, Sample
from warmup_distill.session import Session


def write_rollouts(session: Session) -> dict[str, int]:
    """Write rollouts/ part by part, keeping parts that are there, and return the counts."""
    settings = session.recipe.rollouts
    prompts = list(read_parts(session.folder / "prompts", Prompt))[: settings.limit]
    size = settings.prompts_per_part
    groups = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    paths = [part_path(session.folder / "rollouts", index) for index in range(len(groups))]
    if not all(path.exists() for path in paths):
        _write_missing(session, groups, paths)
    rollouts = [rollout for path in paths for rollout in read_records(path, Rollout)]
    return {
        "rollouts": len(rollouts),
        "tokens": sum(len(rollout.completion_ids) for rollout in rollouts),
        "mismatching": sum(rollout.mismatch_index is not None for rollout in rollouts),
        "truncated": sum(rollout.finish_reason == "length" for rollout in rollouts),
        "continuation_tokens": sum(len(rollout.continuation_ids or []) for rollout in rollouts),
        "continuations_truncated": sum(
            rollout.continuation_finish_reason == "length" for rollout in rollouts
        ),
    }


def _write_missing(
    session: Session, groups: Sequence[Sequence[Prompt]], paths: Sequence[Path]
) -> None:
    settings = session.recipe.rollouts
    waiting = [(g, path) for g, path in zip(groups, paths, strict=True) if not path.exists()]
    # Every completion counts twice: once sampled, once checked and continued.
    total = 2 * settings.num_samples * sum(len(group) for group, _ in waiting)
    with tqdm(total=total, desc="rollouts", unit="completion") as bar:
        engine = TransformersEngine(
            session.student(),
            session.teacher,
            session.vocabulary,
            settings.batch_tokens,
            advance=bar.update,
        )
        for group, path in waiting:
            write_records(path, Rollout, roll_out(engine, group, settings, session.recipe.seed))


def roll_out(
    engine: Engine, prompts: Sequence[Prompt], settings: RolloutsSection, seed: int
) -> list[Rollout]:
    """Sample, check and continue: the rollouts of some prompts, N for each, in order.

    Source: Warmup-Distill, arXiv:2502.11766, steps 1 to 3.
    """
    ids = [prompt.prompt_ids for prompt in prompts]
    results: dict[int, list[Rollout]] = {}
    for batch in engine.batches(ids, settings.num_samples, settings.max_new_tokens):
        rollouts = _roll_out_batch(engine, [prompts[i] for i in batch], settings, seed)
        results |= dict(zip(batch, rollouts, strict=True))
    return [rollout for index in range(len(prompts)) for rollout in results[index]]


def _roll_out_batch(
    engine: Engine, prompts: Sequence[Prompt], settings: RolloutsSection, seed: int
) -> list[list[Rollout]]:
    def streams(role: str) -> list[list[int]]:
        numbers = range(settings.num_samples)
        return [[stream(seed, role, prompt.prompt_id, i) for i in numbers] for prompt in prompts]

    ids = [prompt.prompt_ids for prompt in prompts]
    samples = engine.sample(
        ids,
        streams("student"),
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
    )
    checks = engine.check_and_continue(
        ids,
        samples,
        streams("teacher"),
        margin_threshold=settings.margin_threshold,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.continuation_temperature,
        stop_at_mismatch=settings.stop_at_mismatch,
    )
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
    )
