"""A warm-up step over the tree against TRL's DPOTrainer, in turns, on the same pairs.

    python benchmarks/warmup.py --gsm8k gsm8k.jsonl --json warmup.json

All pairs of one prompt are one batch. TRL runs with its default settings (float32 aside), with
reference log-probabilities computed beforehand, and with those and no activation checkpointing.
"""

import copy
import tempfile
from typing import Any

import trl
from common import arguments, compare, finish, models, rows, train, training_arguments
from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.chat import encode_prompt
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe import PairsSection, RolloutsSection
from warmup_distill.records import Prompt
from warmup_distill.stages.pairing import select_pairs
from warmup_distill.stages.rollouts import roll_out
from warmup_distill.training.warmup import WarmupTrainer

BETA = 0.1


def pairs_of_a_prompt(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: Any,
    vocabulary: Vocabulary,
    texts: list[str],
    max_new_tokens: int,
) -> list[dict[str, Any]]:
    """The pairs of that prompt which gives the most."""
    prompts = [
        Prompt(prompt_id=str(i), prompt_ids=encode_prompt(tokenizer, text, "chat"), text=text,
               reference=None, answer=None)
        for i, text in enumerate(texts)
    ]  # fmt: skip
    engine = TransformersEngine(student, teacher, vocabulary, 16384)
    settings = RolloutsSection(max_new_tokens=max_new_tokens)
    rollouts = roll_out(engine, prompts, settings, seed=0)
    known = {prompt.prompt_id: prompt for prompt in prompts}
    pairs, _ = select_pairs(rollouts, known, tokenizer, PairsSection())
    groups = [[vars(p) for p in pairs if p.prompt_id == prompt.prompt_id] for prompt in prompts]
    return max(groups, key=len)


def ours(policy: PreTrainedModel, vocabulary: Vocabulary, pairs: list[Any], steps: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return WarmupTrainer(
            model=policy,
            vocabulary=vocabulary,
            beta=BETA,
            args=TrainingArguments(**training_arguments(steps, len(pairs), folder)),
            train_dataset=Dataset.from_list(pairs),
        )


def theirs(
    policy: PreTrainedModel, reference: PreTrainedModel, tokenizer: Any, pairs: list[Any],
    steps: int, **choice: Any,
) -> Any:  # fmt: skip
    precomputed = choice.get("precompute_ref_log_probs", False)
    text = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * len(pairs))
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl.DPOTrainer(
            model=policy,
            ref_model=reference,
            args=trl.DPOConfig(
                **training_arguments(steps, len(pairs), folder), beta=BETA, **choice
            ),
            train_dataset=text,
            processing_class=tokenizer,
        )
    names = ["prompt_ids", "chosen_ids", "rejected_ids"]
    ids = [{name: pair[name] for name in names} for pair in pairs]
    if precomputed:
        ids = [row | whole_references(reference, row) for row in ids]
    trainer.train_dataset = Dataset.from_list(ids)  # the very same ids, not tokenized again
    return trainer


def whole_references(reference: PreTrainedModel, row: dict[str, Any]) -> dict[str, float]:
    """What TRL would keep: log-probabilities of whole completions under the reference."""
    import torch

    sums = {}
    for side in ("chosen", "rejected"):
        completion = row[f"{side}_ids"]
        ids = torch.tensor([row["prompt_ids"] + completion])
        with torch.inference_mode():
            logprobs = reference(input_ids=ids).logits[0, :-1].log_softmax(-1)
        chosen = logprobs.gather(-1, ids[0, 1:, None]).squeeze(-1)[-len(completion) :]
        sums[f"ref_{side}_logps"] = float(chosen.sum())
    return sums


def main() -> None:
    options = arguments(__doc__).parse_args()
    student, teacher, tokenizer, vocabulary = models(options.model)
    longest, steps, count = (16, 1, 1) if options.quick else (96, 3, 4)
    texts = [row.text for row in rows("gsm8k", options.gsm8k)[:count]]
    pairs = pairs_of_a_prompt(student, teacher, tokenizer, vocabulary, texts, longest)
    shape = [(p["mismatch_index"], len(p["chosen_ids"]), len(p["rejected_ids"])) for p in pairs]
    print(f"prompt of {len(pairs[0]['prompt_ids'])} tokens; cut, chosen, rejected: {shape}")
    del teacher
    choices: dict[str, dict[str, Any]] = {
        "TRL, default settings": {},
        "TRL, default settings without activation checkpointing": {"gradient_checkpointing": False},
        "TRL, reference precomputed": {"precompute_ref_log_probs": True},
        "TRL, reference precomputed, without activation checkpointing": {
            "precompute_ref_log_probs": True,
            "gradient_checkpointing": False,
        },
    }
    records = []
    for name, choice in choices.items():
        mine, fast = train(ours(copy.deepcopy(student), vocabulary, pairs, steps))
        other, slow = train(
            theirs(
                copy.deepcopy(student), copy.deepcopy(student), tokenizer, pairs, steps, **choice
            )
        )
        records.append(compare(name, fast, slow, steps=steps, ours_log=mine, theirs_log=other))
    finish(records, options.json)


if __name__ == "__main__":
    main()
