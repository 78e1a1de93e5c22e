"""Two servers of vLLM against the default engine: the same numbers, the same mismatches?

    python benchmarks/vllm.py --models DIR       # writes both models, and says how to serve them
    python benchmarks/vllm.py --models DIR --student URL --teacher URL --json vllm.json

The student is the teacher with noise. Nothing is timed: that is a question of the servers' devices.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from common import SMOLLM2, noisy_copy

from warmup_distill.cluster.places import Here
from warmup_distill.engines import Engine
from warmup_distill.engines.choosing import InProcess, Pair, choose
from warmup_distill.engines.progress import Progress
from warmup_distill.engines.randomness import stream
from warmup_distill.models.chat import encode_prompt
from warmup_distill.models.holding import Held, ModelRef
from warmup_distill.models.loading import load_model, load_tokenizer
from warmup_distill.models.vocabulary import vocabulary_of
from warmup_distill.recipe import RolloutsSection
from warmup_distill.records import Check, Sample

QUESTIONS = [
    "What is the capital of France?", "Write a sentence about the sea.", "How much is 17 times 3?",
    "Name three fruits and say what colour each one has.", "Why is the sky blue?",
    "A shop sells 12 apples for 3 dollars. What do 20 apples cost?", "Translate to French: bread.",
    "Give me a recipe for pancakes.",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Apart:
    """How far log-probabilities of the same tokens are from one another, nats."""

    tokens: int
    mean: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Server against the default engine, on completions that the server drew."""

    servers: dict[str, Any]
    student: Apart
    teacher: Apart
    references: Apart
    completions: int
    mismatching: int
    same_mismatches: int
    nearest_to_threshold: float
    """Nats between the threshold and the margin that is nearest to it."""
    same_greedy_continuations: int
    same_when_drawn_again: int
    same_when_drawn_alone: int


def main() -> None:
    options = parsed()
    folders = {role: options.models / role for role in ("student", "teacher")}
    write_models(folders)
    if not (options.student and options.teacher):
        for port, folder in enumerate(folders.values(), 8001):
            print(
                f"python -m vllm.entrypoints.openai.api_server --model {folder} --port {port} "
                "--host 127.0.0.1 --dtype float32 --max-model-len 1024 --generation-config vllm "
                "--logprobs-mode raw_logprobs --no-enable-prefix-caching"
            )
        return
    found = asdict(agreement(options, folders))
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of both models")
    parser.add_argument("--student", help="address of the student's server")
    parser.add_argument("--teacher", help="address of the teacher's server")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def write_models(folders: dict[str, Path]) -> None:
    for role, folder in folders.items():
        if not (folder / "config.json").exists():
            model = noisy_copy(SMOLLM2) if role == "student" else load_model(SMOLLM2)
            model.save_pretrained(folder)
            load_tokenizer(SMOLLM2).save_pretrained(folder)


def agreement(options: argparse.Namespace, folders: dict[str, Path]) -> Agreement:
    settings = RolloutsSection.model_validate(
        {
            "max_new_tokens": options.max_new_tokens, "num_samples": options.samples,
            "engine": {"name": "vllm", "student": options.student, "teacher": options.teacher},
        }
    )  # fmt: skip
    tokenizer = load_tokenizer(str(folders["student"]))
    refs = {role: ModelRef.of(str(folder), "float32") for role, folder in folders.items()}
    loaded = {role: ref.load() for role, ref in refs.items()}
    pair = Pair(**refs, vocabulary=vocabulary_of(tokenizer, loaded))
    prompts = [encode_prompt(tokenizer, question, "chat") for question in QUESTIONS]
    with Progress("probe", 0) as progress:
        source, servers = choose(settings, pair, prompts, Here(), 1, progress)
    remote = source.engine(Held(), lambda tokens: None)
    here = InProcess(pair=pair, batch_tokens=16384).engine(Held(), lambda tokens: None)
    streams = [[stream("benchmark", p, i) for i in range(options.samples)]
               for p in range(len(prompts))]  # fmt: skip

    def draw(some: list[int]) -> list[list[Sample]]:
        return remote.sample(
            [prompts[i] for i in some], [streams[i] for i in some],
            max_new_tokens=settings.max_new_tokens, temperature=1.0,
        )  # fmt: skip

    def check(engine: Engine) -> list[Check]:
        return [*chain(*engine.check_and_continue(
            prompts, samples, streams, margin_threshold=settings.margin_threshold,
            max_new_tokens=settings.max_new_tokens, temperature=0.0, stop_at_mismatch=False,
        ))]  # fmt: skip

    everything = [*range(len(prompts))]
    samples, again = draw(everything), draw(everything)
    alone = [draw([i])[0] for i in everything]
    flat = [*chain(*samples)]
    theirs, ours = check(remote), check(here)
    student = held_to(pair, refs["student"], prompts, samples)
    both = [(a, b) for a, b in zip(theirs, ours, strict=True) if same_ending(a, b)]
    margins = [q - p for one, found in zip(flat, ours, strict=True)
               for q, p in zip(one.logprobs, found.teacher_logprobs, strict=True)]  # fmt: skip
    return Agreement(
        servers=servers,
        student=apart([one.logprobs for one in flat], student),
        teacher=apart([a.teacher_logprobs for a in theirs], [b.teacher_logprobs for b in ours]),
        references=apart([a.continuation_ref_logprobs or [] for a, _ in both],
                         [b.continuation_ref_logprobs or [] for _, b in both]),
        completions=len(flat),
        mismatching=sum(one.mismatch_index is not None for one in ours),
        same_mismatches=sum(a.mismatch_index == b.mismatch_index
                            for a, b in zip(theirs, ours, strict=True)),
        nearest_to_threshold=min(abs(margin - settings.margin_threshold) for margin in margins),
        same_greedy_continuations=len(both),
        same_when_drawn_again=same(flat, chain(*again)),
        same_when_drawn_alone=same(flat, chain(*alone)),
    )  # fmt: skip


def held_to(
    pair: Pair, model: ModelRef, prompts: list[list[int]], samples: list[list[Sample]]
) -> list[list[float]]:
    """Log-probabilities of some samples under a model in this process."""
    alike = Pair(student=model, teacher=model, vocabulary=pair.vocabulary)
    engine = InProcess(pair=alike, batch_tokens=16384).engine(Held(), lambda tokens: None)
    checks = engine.check_and_continue(
        prompts, samples, [[0] * len(group) for group in samples], margin_threshold=1e9,
        max_new_tokens=max(len(one.ids) for one in chain(*samples)), temperature=0.0,
        stop_at_mismatch=False,
    )  # fmt: skip
    return [one.teacher_logprobs for one in chain(*checks)]


def apart(some: list[list[float]], others: list[list[float]]) -> Apart:
    values = [abs(a - b) for a, b in zip(chain(*some), chain(*others), strict=True)]
    return Apart(tokens=len(values), mean=sum(values) / len(values), largest=max(values))


def same_ending(one: Check, other: Check) -> bool:
    ours, theirs = one.continuation, other.continuation
    return ours is not None and theirs is not None and ours.ids == theirs.ids


def same(some: list[Sample], others: Any) -> int:
    return sum(a.ids == b.ids for a, b in zip(some, others, strict=True))


if __name__ == "__main__":
    main()
