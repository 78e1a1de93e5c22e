"""Train the teacher, the student and the tokenizer that ship with the package.

    python scripts/train_bundled.py teacher
    python scripts/train_bundled.py student

Each writes its folder below src/warmup_distill/bundled/ with a card that says how it was made and
what it scores. Both first drill bare sums, where every token that is learnt is arithmetic, and
then turn to problems. The loop is plain on purpose: one model, one loss, no checkpoints.
"""

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from warmup_distill.bundled.problems import LARGEST, Habit, draw
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import decode_completion, encode_prompt
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.scoring.answers import is_right
from warmup_distill.store.artifacts import write_json, write_text
from warmup_distill.store.environment import describe_environment

FOLDER = Path(__file__).parents[1] / "src" / "warmup_distill" / "bundled"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one of the two models is built and raised."""

    hidden_size: int
    num_layers: int
    num_heads: int
    learning_rate: float
    steps: int
    batch_size: int
    drill_share: tuple[float, float]
    """Share of rows that drill bare sums, in the first and in the second half of the steps."""
    habits: dict[Habit, float]
    seed: int


PLANS = {
    "teacher": Plan(
        hidden_size=128, num_layers=4, num_heads=4, learning_rate=2e-3, steps=3000, batch_size=128,
        drill_share=(0.8, 0.1), habits={"none": 1.0}, seed=1,
    ),
    "student": Plan(
        hidden_size=64, num_layers=3, num_heads=4, learning_rate=3e-3, steps=1220, batch_size=64,
        drill_share=(0.25, 0.0), habits={"none": 0.4, "wording": 0.15, "skip": 0.1, "slip": 0.35},
        seed=2,
    ),
}  # fmt: skip


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, so that any text has ids and arithmetic is by digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    rng = random.Random(0)
    texts = [
        f"{problem.question}\n{problem.write(habit, rng)}"
        for problem in islice(draw("train", seed=0), 5_000)
        for habit in ("none", "wording")
    ]
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        model_max_length=256,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def batches(
    plan: Plan, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One right-padded batch a step: ids, labels (-100 where nothing is learnt), attention mask."""
    rng = random.Random(plan.seed)
    problems = draw("train", seed=plan.seed)
    habits, weights = list(plan.habits), list(plan.habits.values())
    for step in range(plan.steps):
        drills = round(plan.batch_size * plan.drill_share[step * 2 >= plan.steps])
        rows = [drill(rng, tokenizer) for _ in range(drills)]
        for problem in islice(problems, plan.batch_size - drills):
            habit = rng.choices(habits, weights)[0]
            prompt = tokenizer.encode(f"<|user|>{problem.question}<|assistant|>")
            completion = tokenizer.encode(f"{problem.write(habit, rng)}<|end|>")
            rows.append((prompt + completion, [-100] * len(prompt) + completion))
        yield collate(rows)


def drill(rng: random.Random, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Ten sums such as `27+59=86`, of which only the results are learnt."""
    ids = tokenizer.encode("<|user|><|assistant|>")
    labels = [-100] * len(ids)
    for _ in range(10):
        question, result = sum_with_result(rng)
        asked, told = tokenizer.encode(f" {question}="), tokenizer.encode(f"{result}.\n")
        ids += asked + told
        labels += [-100] * len(asked) + told
    return ids, labels


def sum_with_result(rng: random.Random) -> tuple[str, int]:
    operator = rng.choice("++--**/")
    while True:
        if operator in "+-":
            left, right = rng.randint(1, LARGEST), rng.randint(1, LARGEST)
        else:
            left, right = rng.randint(2, 40), rng.randint(2, 9)
        if operator == "/":
            left *= right
        elif operator == "*" and rng.random() < 0.5:
            left, right = right, left
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}
        if max(left, right) <= LARGEST and 1 <= result[operator] <= LARGEST:
            return f"{left}{operator}{right}", result[operator]


def collate(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (row_ids, row_labels) in enumerate(rows):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        labels[row, : len(row_ids)] = torch.tensor(row_labels)
        mask[row, : len(row_ids)] = 1
    return ids, labels, mask


def build(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.hidden_size,
        intermediate_size=plan.hidden_size * 11 // 4,
        num_hidden_layers=plan.num_layers,
        num_attention_heads=plan.num_heads,
        num_key_value_heads=plan.num_heads // 2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    model = build(plan, tokenizer)
    print(f"{model.num_parameters():,} parameters", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, total_steps=plan.steps, pct_start=0.05
    )
    started = time.perf_counter()
    for step, (ids, labels, mask) in enumerate(batches(plan, tokenizer)):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            print(
                f"step {step} loss {loss.item():.4f} {time.perf_counter() - started:.0f} s",
                flush=True,
            )
    return model


def measure(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float
) -> float:
    """Accuracy in percent on 2,000 test problems; 0 is greedy."""
    eos = frozenset({tokenizer.eos_token_id})
    vocabulary = Vocabulary(size=len(tokenizer), eos_ids=eos, pad_id=tokenizer.pad_token_id)
    problems = list(islice(draw("test", seed=0), 2000))
    samples = TransformersEngine(model, model, vocabulary, batch_tokens=65536).sample(
        [encode_prompt(tokenizer, problem.question, "chat") for problem in problems],
        [[stream(0, "evaluate", problem.problem_id)] for problem in problems],
        max_new_tokens=96,
        temperature=temperature,
    )
    right = [
        is_right(decode_completion(tokenizer, sample.ids), problem.answer)
        for problem, (sample,) in zip(problems, samples, strict=True)
    ]
    return 100 * sum(right) / len(right)


def write_card(folder: Path, what: str, plan: Plan, facts: dict[str, Any]) -> None:
    """card.json for programs, README.md for people."""
    write_json(folder / "card.json", facts | {"plan": asdict(plan)})
    write_text(folder / "README.md", CARD.format(what=what, habits=HABITS[what], **facts))


HABITS = {
    "teacher": "It was raised on right solutions in one wording alone.",
    "student": (
        "It has both kinds of mismatch that real students have. What it cannot compute: it is "
        "small and was stopped early. And habits of its own: four in ten of its solutions were "
        "right and in the teacher's wording; the others had another wording (right), a skipped "
        "step (right), or a slip (one wrong result, carried through), in the shares that "
        "card.json gives under `habits`. So it knows better than it samples: that is the room "
        "which a warm-up has."
    ),
}

CARD = """---
license: apache-2.0
library_name: transformers
language: en
---

# The bundled {what}

Solves grade-school word problems of two to four steps with numbers up to 99, and nothing else.
A stock Llama architecture with {parameters:,} parameters in float32; byte-level tokenizer with
single digits, trained on the problems.

{habits}

| | |
| --- | --- |
| made by | `{command}` |
| data | `warmup_distill.bundled.problems`, split train, seed {seed}, and bare sums as drills |
| time | {seconds:.0f} s for {steps} steps |
| hardware | {hardware} |
| accuracy on 2,000 test problems, greedy | {greedy:.2f}% |
| the same, sampled at temperature 1 | {sampled:.2f}% |

The test problems share no problem with the training data, not even in their numbers alone.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["teacher", "student"])
    parser.add_argument("--output", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    what, plan, target = arguments.what, PLANS[arguments.what], arguments.output / arguments.what
    tokenizer = train_tokenizer()
    began = time.perf_counter()
    model = train(plan, tokenizer).eval()
    seconds = time.perf_counter() - began
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    hardware = describe_environment()["hardware"]
    facts = {
        "command": f"python scripts/train_bundled.py {what}",
        "seed": plan.seed,
        "steps": plan.steps,
        "seconds": round(seconds),
        "hardware": f"{hardware['cpu']}, {hardware['threads']} threads",
        "parameters": model.num_parameters(),
        "greedy": measure(model, tokenizer, 0.0),
        "sampled": measure(model, tokenizer, 1.0),
    }
    write_card(target, what, plan, facts)
    print(facts)


if __name__ == "__main__":
    main()
