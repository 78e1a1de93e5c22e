"""Rollouts against plain `transformers`, in turns, on the same models and prompts.

    python benchmarks/rollouts.py --gsm8k gsm8k.jsonl --dolly dolly.jsonl --json rollouts.json

Theirs is what a competent user writes: `generate(num_return_sequences=8)` in batches of 64 rows,
padded forward passes of both models, `generate` again from the cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from common import Measured, arguments, compare, finish, matrix_rate, measure, models, rows
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.engines.mismatch import find_mismatch
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.score import score
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import encode_prompt
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import RolloutsSection
from warmup_distill.records import Prompt, Rollout, Sample
from warmup_distill.stages.rollouts import roll_out
from warmup_distill.tree.grow import TokenTree

THRESHOLD = 4.0
GENERATE_ROWS, FORWARD_ROWS = 64, 16
BATCH_TOKENS = 32768


@dataclass(frozen=True)
class Setting:
    """What both sides work with."""

    student: PreTrainedModel
    teacher: PreTrainedModel
    vocabulary: Vocabulary
    prompts: list[list[int]]
    num_samples: int
    max_new_tokens: int

    def streams(self) -> list[list[int]]:
        numbers = range(self.num_samples)
        return [[stream("student", p, i) for i in numbers] for p, _ in enumerate(self.prompts)]

    def engine(self) -> TransformersEngine:
        return TransformersEngine(self.student, self.teacher, self.vocabulary, BATCH_TOKENS)


def sample(setting: Setting, engine: TransformersEngine) -> list[list[Sample]]:
    return engine.sample(
        setting.prompts,
        setting.streams(),
        max_new_tokens=setting.max_new_tokens,
        temperature=1.0,
    )


def check_alone(
    setting: Setting, engine: TransformersEngine, samples: list[list[Sample]], *, stop: bool
) -> list[list[float]]:
    """Teacher log-probabilities, up to the first mismatch or of everything."""
    flat = [drawn for group in samples for drawn in group]
    owners = [p for p, group in enumerate(samples) for _ in group]

    def mismatches(branch: int, logprobs: list[float]) -> bool:
        return stop and find_mismatch(flat[branch].logprobs, logprobs, THRESHOLD)[0] is not None

    with torch.inference_mode(), engine.teacher.following():
        tree = TokenTree(engine.teacher, setting.prompts, owners, setting.max_new_tokens)
        found = score(tree, {b: drawn.ids for b, drawn in enumerate(flat)}, mismatches)
    return [found[branch] for branch in range(len(flat))]


def all_stages(setting: Setting) -> list[Rollout]:
    """Sample, check, continue, and score the continuations under the student."""
    prompts = [
        Prompt(prompt_id=str(i), prompt_ids=ids, text="", reference=None, answer=None)
        for i, ids in enumerate(setting.prompts)
    ]
    settings = RolloutsSection(
        num_samples=setting.num_samples,
        max_new_tokens=setting.max_new_tokens,
        margin_threshold=THRESHOLD,
    )
    return roll_out(setting.engine(), prompts, settings, seed=0)


def plain_generate(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    prefixes: Sequence[list[int]],
    copies: int,
    lengths: Sequence[int],
) -> list[list[int]]:
    """Completions by `generate`, `copies` of each prefix, in batches of 64 rows."""
    results = []
    for start in range(0, len(prefixes), GENERATE_ROWS // copies):
        some = slice(start, start + GENERATE_ROWS // copies)
        ids, mask = pad_left(prefixes[some], vocabulary.pad_id)
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=copies,
            max_new_tokens=max(lengths[some]),
            pad_token_id=vocabulary.pad_id,
        )
        for row in output[:, ids.shape[1] :].tolist():
            end = next((i + 1 for i, t in enumerate(row) if t in vocabulary.eos_ids), len(row))
            results.append(row[:end])
    return results


@torch.inference_mode()
def plain_logprobs(
    model: PreTrainedModel, vocabulary: Vocabulary, prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
) -> list[list[float]]:  # fmt: skip
    """Log-probabilities by padded forward passes, in batches of 16 rows."""
    results = []
    for start in range(0, len(prompts), FORWARD_ROWS):
        some = slice(start, start + FORWARD_ROWS)
        pairs = list(zip(prompts[some], completions[some], strict=True))
        ids, mask = pad_left([[*p, *c] for p, c in pairs], vocabulary.pad_id)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        logprobs = logits[:, :-1].float().log_softmax(-1)
        chosen = logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        results += [chosen[i, -len(c) :].tolist() for i, (_, c) in enumerate(pairs)]
    return results


def pad_left(sequences: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, sequences))
    ids = [[pad_id] * (width - len(s)) + s for s in sequences]
    mask = [[0] * (width - len(s)) + [1] * len(s) for s in sequences]
    return torch.tensor(ids), torch.tensor(mask)


def plain_roll_out(setting: Setting) -> dict[str, Measured]:
    """The three steps by plain transformers, each measured."""
    n, longest = setting.num_samples, setting.max_new_tokens
    prompts, vocabulary = setting.prompts, setting.vocabulary
    completions, sampling = measure(
        lambda: plain_generate(setting.student, vocabulary, prompts, n, [longest] * len(prompts))
    )
    owners = [prompt for prompt in prompts for _ in range(n)]
    (q, p), checking = measure(
        lambda: [
            plain_logprobs(m, vocabulary, owners, completions)
            for m in (setting.student, setting.teacher)
        ]
    )
    cuts = [find_mismatch(*pair, THRESHOLD)[0] for pair in zip(q, p, strict=True)]
    cut = sorted((k, i) for i, k in enumerate(cuts) if k is not None)
    prefixes = [owners[i] + completions[i][:k] for k, i in cut]
    _, continuing = measure(
        lambda: plain_generate(
            setting.teacher, vocabulary, prefixes, 1, [longest - k for k, _ in cut]
        )
    )
    return {"sample": sampling, "check": checking, "continue": continuing}


def total(parts: dict[str, Measured]) -> Measured:
    peaks = [part.peak_mib for part in parts.values() if part.peak_mib is not None]
    seconds = sum(part.seconds for part in parts.values())
    return Measured(seconds=seconds, peak_mib=max(peaks, default=None))


def agreement(setting: Setting, samples: list[list[Sample]], ours: list[list[float]]) -> float:
    """The largest difference of a teacher log-probability from the padded forward's."""
    flat = [drawn.ids for group in samples for drawn in group]
    owners = [p for p in setting.prompts for _ in range(setting.num_samples)]
    theirs = plain_logprobs(setting.teacher, setting.vocabulary, owners, flat)
    return max(
        abs(a - b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def operations(setting: Setting, samples: list[list[Sample]]) -> float:
    """Of one pass over prompts and samples: 2 per weight and token, and attention.

    Attention is 4 per layer, number of the queries' width, and token that a token sees.
    """
    model = setting.teacher
    head = model.get_output_embeddings().weight.numel()
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    weights = sum(p.numel() for p in model.parameters())
    body = weights - (1 if tied else 2) * head
    completion = sum(len(drawn.ids) for group in samples for drawn in group)
    fed = sum(map(len, setting.prompts)) + completion - len(setting.prompts) * setting.num_samples
    seen = sum(n * (n + 1) // 2 for n in map(len, setting.prompts))
    for ids, group in zip(setting.prompts, samples, strict=True):
        seen += sum(len(ids) + place for drawn in group for place in range(1, len(drawn.ids)))
    config = model.config
    width = config.num_attention_heads * config.head_dim
    attention = 4.0 * config.num_hidden_layers * width * seen
    return 2.0 * body * fed + 2.0 * head * completion + attention


def benchmark(name: str, setting: Setting) -> list[dict[str, Any]]:
    engine = setting.engine()
    theirs = plain_roll_out(setting)
    # The machine's rate changes from minute to minute, so it is taken around each of the two.
    limits = [matrix_rate()]
    samples, sampling = measure(lambda: sample(setting, engine))
    limits.append(matrix_rate())
    every, checking_all = measure(lambda: check_alone(setting, engine, samples, stop=False))
    limits.append(matrix_rate())
    _, checking = measure(lambda: check_alone(setting, engine, samples, stop=True))
    found, whole = measure(lambda: all_stages(setting))
    tokens = sum(len(drawn.ids) for group in samples for drawn in group)
    share = sum(one.mismatch_index is not None for one in found) / len(found)
    work = operations(setting, samples)
    rates = {
        "sampling": work / sampling.seconds / fmean(limits[:2]),
        "check": work / checking_all.seconds / fmean(limits[1:]),
    }
    difference = agreement(setting, samples, every)
    records = [
        compare(f"rollouts, {name}", whole, total(theirs), mismatching=share),
        compare(
            f"sampling, {name}",
            sampling,
            theirs["sample"],
            tokens_per_second=tokens / sampling.seconds,
        ),
        compare(f"check, {name}", checking, theirs["check"], largest_difference=difference),
        compare(f"check of every token, {name}", checking_all, theirs["check"]),
    ]
    gflops = [round(limit / 1e9) for limit in limits]
    print(f"share of the matrix-product rate ({gflops} GFLOP/s), {name}: {rates}", flush=True)
    return [*records, {"name": f"share of the limit, {name}", "gflops": gflops} | rates]


def cost_in_n(setting: Setting) -> dict[str, Any]:
    one = replace(setting, num_samples=1)
    _, first = measure(lambda: all_stages(one))
    _, all_ = measure(lambda: all_stages(setting))
    ratio = all_.seconds / first.seconds
    times = f"{all_.seconds:.2f} s against {first.seconds:.2f} s"
    print(f"N = {setting.num_samples} over N = 1: {times}, {ratio:.2f}")
    return {"name": "cost in N", "n1": first.seconds, "n8": all_.seconds, "ratio": ratio}


def main() -> None:
    options = arguments(__doc__).parse_args()
    student, teacher, tokenizer, vocabulary = models(options.model)
    longest, count = (16, 2) if options.quick else (96, 16)

    def setting(name: str, shortest: int, most: int, wanted: int) -> Setting:
        texts = (row.text for row in rows(name, getattr(options, name)))
        encoded = (encode_prompt(tokenizer, text, "chat") for text in texts)
        fitting = (ids for ids in encoded if shortest <= len(ids) <= most)
        prompts = list(islice(fitting, wanted))
        return Setting(student, teacher, vocabulary, prompts, 8, longest)

    short = setting("gsm8k", 40, 200, count)
    records = benchmark("GSM8K", short)
    records += benchmark("Dolly, 200 to 400 tokens", setting("dolly", 200, 400, count // 2))
    records.append(cost_in_n(short))
    finish(records, options.json)


if __name__ == "__main__":
    main()
