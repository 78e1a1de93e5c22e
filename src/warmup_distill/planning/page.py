"""The plan as one page of text."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from warmup_distill.foreign.showing import clean
from warmup_distill.models.loading import UNBOUNDED
from warmup_distill.page.words import count, duration
from warmup_distill.pipeline import stages_of
from warmup_distill.planning.cluster_page import cluster_lines
from warmup_distill.planning.devices import DEVICES
from warmup_distill.planning.estimates import Tokens, disk, lengths_at_most, memory, tokens
from warmup_distill.planning.facts import DataFacts, Facts, ModelFacts, gather
from warmup_distill.planning.measuring import measure
from warmup_distill.planning.outlook import Trouble, look_ahead
from warmup_distill.planning.work import totals
from warmup_distill.recipe import Recipe
from warmup_distill.stages.session import Session
from warmup_distill.store.environment import device_memory
from warmup_distill.store.leaves import RECIPE
from warmup_distill.store.manifest import Manifest
from warmup_distill.store.opening import review_run

LONGEST_PROMPT = 600
"""Characters of the first prompt that the page shows."""


def plan(
    recipe: Recipe,
    folder: Path,
    *,
    measured: bool,
    compared: Sequence[int] = (),
    trouble: Trouble = Trouble(),  # noqa: B008
) -> tuple[str, list[str]]:
    """Check a recipe without loading weights.

    Args:
        measured: load them after all, and time a few seconds of the real work.
        compared: numbers of workers to simulate, where the recipe names workers; its own if absent.
        trouble: what the simulation has happen to parts.

    Returns:
        The page, and everything that is wrong.
    """
    session = Session(folder, recipe)
    facts = gather(session)
    lines = [f"plan for {folder}", "", *_models(facts), *_data(facts), *_stages(session, facts)]
    counted = None
    if facts.data and facts.vocabulary and facts.teacher and facts.student:
        counted = facts.attempt(lambda: tokens(recipe, facts, session.renderer))
    if counted:
        lines += _sizes(recipe, facts, counted, folder)
        found = None
        if measured and not facts.problems:
            found = facts.attempt(lambda: measure(recipe, folder, facts))
            lines += (
                _times(totals(recipe, facts, found.costs, found.lengths), recipe) if found else []
            )
        elif not measured and not recipe.cluster:
            lines += ["time       add --measure: loads the weights and times a few prompts"]
        if recipe.cluster:
            at_most = lengths_at_most(recipe, facts, session.renderer)
            outlook = look_ahead(recipe, facts, at_most, found)
            lines += cluster_lines(outlook, compared or [recipe.cluster.num_workers], trouble)
    if facts.problems:
        lines += ["", "what is wrong:", *(f"  - {clean(one)}" for one in facts.problems)]
    return "\n".join(lines), facts.problems


def _models(facts: Facts) -> list[str]:
    lines = [_model(role, found) for role, found in
             (("teacher", facts.teacher), ("student", facts.student)) if found]  # fmt: skip
    if facts.vocabulary:
        ends = ", ".join(map(str, sorted(facts.vocabulary.eos_ids)))
        lines.append(f"vocabulary {count(facts.vocabulary.size)} tokens; end-of-sequence {ends}")
    return lines


def _model(role: str, model: ModelFacts) -> str:
    return (
        f"{role:<10} {clean(model.name)}: {model.kind}, {model.parameters / 1e6:.1f} M parameters, "
        f"head of {count(model.head_rows)}, {_context(model)}; {clean(model.path)}"
    )


def _context(model: ModelFacts) -> str:
    return f"context {count(model.context)}" if model.context < UNBOUNDED else "no limit of context"


def _data(facts: Facts) -> list[str]:
    named = ([("prompts", facts.data)] if facts.data else []) + [*facts.benchmarks.items()]
    lines = [_source(name, found) for name, found in named]
    if facts.first_prompt:
        shown = clean(facts.first_prompt)[:LONGEST_PROMPT]
        lines += ["first prompt, as the models read it:"]
        lines += [f"  | {line}" for line in shown.split("\n")]
    return lines


def _source(name: str, data: DataFacts) -> str:
    lengths = data.lengths
    dropped = f"; {count(data.dropped)} too long, left out" if data.dropped else ""
    dropped += f"; {count(bare)} without a reference" if (bare := data.without_reference) else ""
    return (
        f"{clean(name):<10} {count(len(lengths))} from {clean(data.origin)}: {lengths[0]} to "
        f"{lengths[-1]} tokens, half of them up to {data.median:.0f}{dropped}"
    )


def _stages(session: Session, facts: Facts) -> list[str]:
    """What is done; nothing is where there is no run, or none that can be gone on with."""
    folder, order = session.folder, stages_of(session.recipe)
    states = dict.fromkeys(order, "to do")
    review = None
    if (folder / RECIPE).exists():
        review = facts.attempt(
            lambda: review_run(
                folder, session.recipe, session.fingerprints, session.contents, order
            )
        )
    if review:
        facts.problems += [f"{fault}: put back a copy, or add --redo" for fault in review.faults]
        done = [stage for stage in order if Manifest(folder).complete(stage)]
        states |= {s: "to be redone" if s in review.redone else "complete" for s in done}
    return [f"stages     {', '.join(f'{stage} {state}' for stage, state in states.items())}"]


def _sizes(recipe: Recipe, facts: Facts, counted: Tokens, folder: Path) -> list[str]:
    needed = disk(recipe, facts, counted)
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if sum(needed.values()) > free:
        facts.problems.append(
            f"the run writes up to {_bytes(sum(needed.values()))}, and {there} has {_bytes(free)} "
            "free. Make room, or name another folder with --output-dir."
        )
    return [
        f"tokens     at most {count(counted.sampled)} to sample and check, as many to continue, "
        f"{count(counted.distilled)} to distil on, {count(counted.evaluated)} to evaluate",
        _memory(memory(recipe, facts), *_room(recipe)),
        f"disk       at most {_bytes(sum(needed.values()))} of {_bytes(free)} free: "
        + ", ".join(f"{name} {_bytes(size)}" for name, size in needed.items()),
    ]


def _room(recipe: Recipe) -> tuple[str, int | None]:
    """What each worker has, where the recipe says it, or else this process, and its memory."""
    name = recipe.cluster.device if recipe.cluster else None
    return (name, DEVICES[name].memory) if name else device_memory()


def _memory(peaks: dict[str, int], device: str, there: int | None) -> str:
    each = ", ".join(f"{stage} {_bytes(size)}" for stage, size in peaks.items())
    line = f"memory     about {each}"
    if there is None:
        return line
    line += f"; {device} has {_bytes(there)}"
    if max(peaks.values()) <= there:
        return line
    return line + (
        ", which is less: lower rollouts.batch_tokens, warmup.row_tokens or "
        "per_device_train_batch_size, or take activation_checkpointing, lora or bfloat16"
    )


def _times(seconds: dict[str, float], recipe: Recipe) -> list[str]:
    each = ", ".join(f"{stage} {duration(value)}" for stage, value in seconds.items())
    one = " of one worker" if recipe.cluster else ""
    return [f"time       about {duration(sum(seconds.values()))}{one}: {each}"]


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
