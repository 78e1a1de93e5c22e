"""How the cost of rollouts grows with N, the prompt, the completion and the vocabulary.

    python benchmarks/growth.py --json growth.json

One setting is varied at a time around a middle one. Prompts are real ids in random order and no
completion ends early, so that every point does exactly the work that its numbers say.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

from common import arguments, finish, measure, models, rows
from transformers import PreTrainedModel

from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import encode_prompt
from warmup_distill.models.vocabulary import Vocabulary


@dataclass(frozen=True)
class Point:
    """One setting: prompts of a length, N completions of a length each, over a vocabulary."""

    num_samples: int = 8
    prompt_tokens: int = 128
    completion_tokens: int = 64
    vocabulary: int = 49152


CURVES: dict[str, tuple[int, ...]] = {
    "num_samples": (1, 2, 4, 8, 16),
    "prompt_tokens": (64, 128, 256, 512),
    "completion_tokens": (16, 32, 64, 128),
    "vocabulary": (6144, 12288, 24576, 49152),
}
NUM_PROMPTS = 8


def cost(
    student: PreTrainedModel, teacher: PreTrainedModel, ids: list[int], point: Point
) -> dict[str, float]:
    """Seconds of sampling and of a check of every token."""
    vocabulary = Vocabulary(size=point.vocabulary, eos_ids=frozenset(), pad_id=0)
    usable = [i for i in ids if i < point.vocabulary]
    draw = random.Random(0)
    prompts = [draw.choices(usable, k=point.prompt_tokens) for _ in range(NUM_PROMPTS)]
    streams = [[stream(p, i) for i in range(point.num_samples)] for p in range(NUM_PROMPTS)]
    engine = TransformersEngine(student, teacher, vocabulary, batch_tokens=2**20)
    length = point.completion_tokens
    samples, sampling = measure(
        lambda: engine.sample(prompts, streams, max_new_tokens=length, temperature=1.0)
    )
    _, checking = measure(
        lambda: engine.check_and_continue(
            prompts,
            samples,
            streams,
            margin_threshold=float("inf"),  # so that nothing is cut and every token is scored
            max_new_tokens=length,
            temperature=1.0,
            stop_at_mismatch=False,
        )
    )
    return {"sampling": sampling.seconds, "check": checking.seconds}


def main() -> None:
    options = arguments(__doc__).parse_args()
    student, teacher, tokenizer, _ = models(options.model)
    texts = (row.text for row in rows("gsm8k", options.gsm8k)[:200])
    ids = [i for text in texts for i in encode_prompt(tokenizer, text, "chat")]
    middle = Point(completion_tokens=8) if options.quick else Point()
    cost(student, teacher, ids, replace(middle, completion_tokens=8))  # memory is mapped once
    records: list[dict[str, Any]] = []
    for name, values in CURVES.items():
        for value in values[:2] if options.quick else values:
            seconds = cost(student, teacher, ids, replace(middle, **{name: value}))
            print(f"{name} = {value}: {seconds['sampling']:.2f} s, {seconds['check']:.2f} s")
            records.append({"name": name, "value": value} | seconds)
    finish(records, options.json)


if __name__ == "__main__":
    main()
