"""What a decode step costs besides its arithmetic: milliseconds per step, and per step and layer.

    python benchmarks/decode_overhead.py --json overhead.json
    python benchmarks/decode_overhead.py --before OLD/src  # in turns with an older revision's code

A step of many rows is timed under models so small that hardly any arithmetic is left. What is left
of it, the matrix products of such a step by themselves, is timed beside it and subtracted. A layer
costs the slope between a shallow and a deep model; what a step costs without layers (head, draw,
bookkeeping) is the rest. Processor time of one thread, the least of all repeats and turns, since
whatever else the machine does only adds.

Three situations: rows that grow from their prompts side by side, rows of unlike lengths (after
cuts, as continuations are), rows of which one ends every few steps. Two yardsticks: `generate` of
transformers with as many rows of the same model, and the model by itself with attention that does
nothing, below which no step can be: what is above it is ours.

Beside the time stands what no other program disturbs: how many operations of torch that are no mere
views a layer takes, which on a GPU is how many kernels are started.

On a GPU steps are recorded and replayed. "captured" is what Python does there: the same decoding in
the same shapes, but what would be replayed by the GPU is left out, and the few steps that are run
as they are are not counted.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from warmup_distill.engines import decode as decoding
from warmup_distill.engines.score import score
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.model import TreeModel

SHALLOW, DEEP = 2, 10
"""Layers of the two models."""
PROMPTS, SAMPLES, STEPS, LONGEST = 16, 4, 48, 8
"""LONGEST: tokens of the longest prompt; others are shorter by some."""
VOCABULARY = 64
WIDTH, HEADS = 16, 2
ADVANCES = "advance" in signature(decoding.decode).parameters


@dataclass(frozen=True)
class Drawn:
    """One run: its steps, all its tokens, and what these are known by."""

    steps: int
    tokens: int
    name: str = ""


class Clock:
    """Takes the processor time of work."""

    def __init__(self) -> None:
        self.amount = 0.0

    def time(self, work: Callable[[], object], sign: int = 1) -> None:
        began = time.process_time()
        work()
        self.amount += sign * (time.process_time() - began)


class Counter(Clock):
    """Counts its operations of torch that are no views instead."""

    def time(self, work: Callable[[], object], sign: int = 1) -> None:
        with Counting() as counting:
            work()
        self.amount += sign * counting.count


class Counting(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def tiny(layers: int) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=WIDTH,
        num_hidden_layers=layers, num_attention_heads=HEADS, num_key_value_heads=1,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def texts() -> list[list[int]]:
    draw = random.Random(0)
    lengths = [draw.randint(LONGEST - 2, LONGEST) for _ in range(PROMPTS)]
    return [draw.choices(range(VOCABULARY), k=length) for length in lengths]


def tree_model(model: PreTrainedModel, ends: Sequence[int] = ()) -> TreeModel:
    """With the vocabulary from where a revision has it."""
    older = find_spec("warmup_distill.vocabulary") is not None
    home = "warmup_distill.vocabulary" if older else "warmup_distill.models.vocabulary"
    vocabulary = import_module(home).Vocabulary(size=VOCABULARY, eos_ids=frozenset(ends), pad_id=0)
    return TreeModel(model, vocabulary)


@torch.inference_mode()
def ours(situation: str, model: PreTrainedModel, clock: Clock) -> Drawn:
    """Only `decode` is timed: prompts, and the tokens before the cuts, have run."""
    packed = tree_model(model, [1] if situation == "rows that end" else [])
    owners = [prompt for prompt in range(PROMPTS) for _ in range(SAMPLES)]
    cuts = [0] * len(owners)
    if situation == "unlike lengths":
        cuts = [random.Random(i).randint(1, LONGEST) for i in range(len(owners))]
    with packed.following():
        tree = TokenTree(packed, texts(), owners, LONGEST + STEPS)
        score(tree, {i: [2] * (cut + 1) for i, cut in enumerate(cuts) if cut})
        rows = {i: decoding.Row(stream=i, max_new_tokens=STEPS) for i in range(len(owners))}
        # Every revision has `decode`; in some `advance` is not left out.
        given = {"advance": lambda tokens: None} if ADVANCES else {}
        clock.time(lambda: decoding.decode(tree, rows, 1.0, **given))
    ids = [row.ids for row in rows.values()]
    name = hashlib.sha256(str(ids).encode()).hexdigest()[:16]
    return Drawn(max(map(len, ids)), sum(map(len, ids)), name)


class LeftOut:
    """Records nothing, and takes what steps cost off a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def warm(self, step: Callable[[], None]) -> None:
        self.clock.time(step, -1)

    def record(self, step: Callable[[], None]) -> Callable[[], object]:
        self.clock.time(step, -1)
        return lambda: None


def captured(model: PreTrainedModel, clock: Clock) -> Drawn:
    pace = import_module("warmup_distill.engines.pace")
    with patch.object(pace, "recorder_of", lambda model: LeftOut(clock)):
        return ours("sampling", model, clock)


@torch.inference_mode()
def generate(model: PreTrainedModel, clock: Clock) -> Drawn:
    """Its pass over the prompts is timed apart and subtracted."""
    ids = torch.tensor([text[: LONGEST - 2] for text in texts()]).repeat_interleave(SAMPLES, 0)
    settings = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    for length, sign in ((STEPS, 1), (1, -1)):
        work = partial(model.generate, ids, do_sample=True, top_k=0, max_new_tokens=length)
        clock.time(partial(work, **settings), sign)
    return Drawn(STEPS - 1, len(ids) * (STEPS - 1))


class Nothing:
    """A layout whose attention gives its queries back."""

    longest = LONGEST

    def __init__(self) -> None:
        self.positions = torch.zeros(PROMPTS * SAMPLES, dtype=torch.long)

    def attend(self, layer: int, query: Tensor, *_: object) -> Tensor:
        return query


@torch.inference_mode()
def model_alone(model: PreTrainedModel, clock: Clock) -> Drawn:
    packed = tree_model(model)
    layout = Nothing()
    with packed.following():
        for _ in range(STEPS):
            clock.time(lambda: packed.logits(packed.hidden(layout.positions, layout)))
    return Drawn(STEPS, STEPS * len(layout.positions))


@torch.inference_mode()
def products(model: PreTrainedModel, rows: int, *, attends: bool) -> float:
    """Seconds of all matrix products of a step in the middle, those of a shared prompt shared."""
    size, owned = WIDTH // HEADS, rows // PROMPTS
    states = torch.randn(rows, WIDTH)
    weights = [part.weight for part in model.modules() if isinstance(part, nn.Linear)]
    kinds = ((PROMPTS, owned * HEADS, LONGEST), (rows, HEADS, STEPS // 2))
    pairs = [
        (torch.randn(batch, many, size), torch.randn(batch, keys, size))
        for batch, many, keys in kinds
    ]
    best = float("inf")
    for _ in range(20):
        began = time.process_time()
        for weight in weights:
            F.linear(states, weight)
        for _ in range(model.config.num_hidden_layers if attends else 0):
            for query, key in pairs:
                (query @ key.transpose(1, 2)) @ key
        best = min(best, time.process_time() - began)
    return best


KINDS: dict[str, Callable[[PreTrainedModel, Clock], Drawn]] = {
    "sampling": partial(ours, "sampling"),
    "unlike lengths": partial(ours, "unlike lengths"),
    "rows that end": partial(ours, "rows that end"),
    "generate": generate,
    "model alone": model_alone,
}
if find_spec("warmup_distill.engines.pace"):  # not in older revisions
    KINDS["captured"] = captured


def once(repeats: int) -> dict[str, dict[str, Any]]:
    """The figures of the code that Python finds, in this process: milliseconds a step."""
    torch.set_num_threads(1)
    models = {layers: tiny(layers) for layers in (SHALLOW, DEEP)}
    found: dict[str, dict[str, Any]] = {}
    for name, kind in KINDS.items():
        figures: dict[str, Any] = {}
        for layers, model in models.items():
            clocks = [Clock() for _ in range(repeats)]
            drawn, *_ = [kind(model, clock) for clock in clocks]
            counter = Counter()
            kind(model, counter)
            figures[f"whole {layers}"] = 1e3 * min(c.amount for c in clocks) / drawn.steps
            rows = round(drawn.tokens / drawn.steps)
            attends = kind is not model_alone
            ran = 0.0 if kind is captured else products(model, rows, attends=attends)
            figures[f"products {layers}"] = 1e3 * ran
            figures[f"operations {layers}"] = counter.amount / drawn.steps
            figures["name"] = drawn.name
        found[name] = figures
    return found


def in_turns(
    sources: dict[str, str | None], turns: int, repeats: int
) -> dict[str, list[dict[str, Any]]]:
    """`once` in processes of their own, one after the other."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sources}
    for _ in range(turns):
        for name, source in sources.items():
            environment = os.environ | ({"PYTHONPATH": source} if source else {})
            command = [sys.executable, __file__, "--once", "--repeats", str(repeats)]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
            found[name].append(json.loads(done.stdout))
    return found


def summary(revision: str, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The least of all turns, without the products."""
    records = []
    for name in turns[0]:

        def least(what: str, name: str = name) -> float:
            return min(turn[name][what] for turn in turns)

        shallow, deep = (least(f"whole {n}") - least(f"products {n}") for n in (SHALLOW, DEEP))
        layer = (deep - shallow) / (DEEP - SHALLOW)
        counts = [least(f"operations {n}") for n in (SHALLOW, DEEP)]
        records.append({
            "name": name,
            "revision": revision,
            "ms_per_step": deep,
            "ms_per_step_and_layer": layer,
            "ms_per_step_without_layers": shallow - SHALLOW * layer,
            "ms_of_products": least(f"products {DEEP}"),
            "operations_per_step_and_layer": (counts[1] - counts[0]) / (DEEP - SHALLOW),
            "tokens": turns[0][name]["name"],
        })  # fmt: skip
    return records


def compare(records: list[dict[str, Any]]) -> list[str]:
    """Now over before: of the whole, and of what is above the model by itself."""
    by_name = {(one["revision"], one["name"]): one for one in records}
    lines = []
    for name in list(KINDS)[:3]:
        before, now = (by_name[revision, name] for revision in ("before", "now"))
        words = []
        for key in ("ms_per_step", "ms_per_step_and_layer", "operations_per_step_and_layer"):
            alone = min(by_name[revision, "model alone"][key] for revision in ("before", "now"))
            ours = (now[key] - alone) / (before[key] - alone)
            words.append(f"{key} {now[key] / before[key]:.2f}, above the model {ours:.2f}")
        same = before["tokens"] == now["tokens"]
        lines.append(f"{name}, now / before: {'; '.join(words)}; same tokens: {same}")
    return [*lines, left_over(by_name)]


def left_over(by_name: dict[tuple[str, str], dict[str, Any]]) -> str:
    """What a captured step leaves to Python, over all that a step took before."""
    before, now = by_name["before", "sampling"], by_name["now", "captured"]
    keys = ("ms_per_step", "ms_per_step_and_layer")
    words = [f"{key} {now[key] / before[key]:.3f}" for key in keys]
    return f"captured, now / before: {', '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="FOLDER", help="src of an older revision")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="in each turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.repeats)))
        return
    sources = {"before": options.before} if options.before else {}
    found = in_turns(sources | {"now": None}, options.turns, options.repeats)
    records = [one for name, turns in found.items() for one in summary(name, turns)]
    for one in records:
        print(
            f"{one['name']}, {one['revision']}: {one['ms_per_step']:.2f} ms per step of {DEEP} "
            f"layers, {one['ms_per_step_and_layer']:.3f} per layer and "
            f"{one['operations_per_step_and_layer']:.1f} operations, "
            f"{one['ms_per_step_without_layers']:.2f} without layers; products, not in these, "
            f"{one['ms_of_products']:.2f}"
        )
    for line in compare(records) if options.before else []:
        print(line)
    from common import finish  # it needs this revision, whichever is timed

    finish(records, options.json)


if __name__ == "__main__":
    main()
