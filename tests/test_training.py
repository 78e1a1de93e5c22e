"""The trainers: masks, normalisation, and the identity that lets DPO skip the shared prefix."""

import math
from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from conftest import random_model
from datasets import Dataset
from transformers import TrainingArguments

from warmup_distill.losses import dpo
from warmup_distill.training.distill import DistillTrainer, collate_completions
from warmup_distill.training.warmup import WarmupTrainer, collate_pairs
from warmup_distill.vocabulary import Vocabulary

ROWS = [
    {"prompt_ids": [5, 6, 7], "completion_ids": [8, 9, 1]},
    {"prompt_ids": [4], "completion_ids": [1]},
    {"prompt_ids": [10, 11, 12, 13], "completion_ids": [14, 15, 16, 17, 18, 1]},
    {"prompt_ids": [20, 21], "completion_ids": [22, 1]},
]


def arguments(folder: Path, batch_size: int, accumulation: int, **more: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **({"max_steps": 1, "learning_rate": 1e-2, "logging_steps": 1} | more),
    )


def pairs() -> list[dict[str, Any]]:
    """Pairs of a random policy with its own reference log-probabilities."""
    model, rows = random_model(3), []
    for prompt, prefix, chosen, rejected in (
        ([5, 6], [7, 8], [9, 1], [10, 11, 1]),
        ([4], [], [1], [12, 13, 14]),
        ([20, 21, 22], [23], [24, 25, 26, 1], [27, 1]),
        ([30, 31], [32, 33, 34], [35, 1], [36, 37, 38, 1]),
    ):
        start = [*prompt, *prefix]
        with torch.no_grad():
            sums = [float(naive.logprobs(model, start, side).sum()) for side in (chosen, rejected)]
        rows.append(
            {
                "prompt_ids": prompt,
                "chosen_ids": [*prefix, *chosen],
                "rejected_ids": [*prefix, *rejected],
                "mismatch_index": len(prefix),
                "chosen_ref_logprob": sums[0],
                "rejected_ref_logprob": sums[1],
            }
        )
    return rows


def distill_trainer(
    vocabulary: Vocabulary, folder: Path, split: tuple[int, int], **settings: Any
) -> DistillTrainer:
    return DistillTrainer(
        model=random_model(1),
        teacher=random_model(2),
        vocabulary=vocabulary,
        args=arguments(folder, *split),
        train_dataset=Dataset.from_list(ROWS),
        **settings,
    )


def warmup_trainer(vocabulary: Vocabulary, folder: Path, split: tuple[int, int]) -> WarmupTrainer:
    return WarmupTrainer(
        model=random_model(3),
        vocabulary=vocabulary,
        beta=0.5,
        args=arguments(folder, *split),
        train_dataset=Dataset.from_list(pairs()),
    )


@pytest.mark.parametrize("build", [distill_trainer, warmup_trainer])
def test_splitting_a_step_into_micro_batches_changes_nothing(
    build: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    weights, norms = [], []
    for split in ((4, 1), (2, 2), (1, 4)):
        trainer = build(vocabulary, tmp_path, split)
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        norms.append([line["grad_norm"] for line in trainer.state.log_history if "loss" in line])
    for other in norms[1:]:
        assert other == pytest.approx(norms[0], rel=1e-5)
    # Adam divides by the gradient's size, which magnifies rounding where a gradient is near 0.
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], atol=1e-4, rtol=0)


def test_distillation_loss_is_the_mean_over_all_completion_tokens(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = distill_trainer(vocabulary, tmp_path, (4, 1))
    batch = collate_completions(ROWS)
    values = []
    for row in ROWS:
        q, p = (
            naive.completion_logits(model, row["prompt_ids"], row["completion_ids"]).log_softmax(-1)
            for model in (trainer.model, trainer.teacher.model)
        )
        values.append((p.exp() * (p - q)).sum(-1))
    expected = torch.cat(values).mean()  # 12 tokens, one of them a one-token completion
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), expected)


def test_a_one_token_completion_has_one_loss_position_and_it_is_end_of_sequence() -> None:
    batch = collate_completions([ROWS[1]])
    assert batch["targets"].tolist() == [1] and batch["predictors"].tolist() == [0]


def test_company_in_the_packed_row_changes_nothing(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = distill_trainer(vocabulary, tmp_path, (4, 1))
    counts = torch.tensor([len(row["completion_ids"]) for row in ROWS])
    together = trainer.compute_loss(trainer.model, collate_completions(ROWS))
    apart = [trainer.compute_loss(trainer.model, collate_completions([row])) for row in ROWS]
    torch.testing.assert_close(together * counts.sum(), (torch.stack(apart) * counts).sum())


def test_padded_heads_of_unlike_size_change_nothing(vocabulary: Vocabulary, tmp_path: Path) -> None:
    plain = distill_trainer(vocabulary, tmp_path, (4, 1))
    batch = collate_completions(ROWS)
    expected = plain.compute_loss(plain.model, batch)
    for model, rows in ((plain.model, 44), (plain.teacher.model, 48)):
        model.resize_token_embeddings(rows, mean_resizing=False)
        with torch.no_grad():
            model.get_output_embeddings().weight[vocabulary.size :] = 5.0  # loud, if it counted
    torch.testing.assert_close(plain.compute_loss(plain.model, batch), expected)


def test_dpo_starts_at_ln_2(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = warmup_trainer(vocabulary, tmp_path, (4, 1))
    trainer.train()
    first = next(line for line in trainer.state.log_history if "loss" in line)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["reward_margin"] == pytest.approx(0, abs=1e-4)


def test_suffixes_alone_give_the_loss_and_gradients_of_whole_completions(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = warmup_trainer(vocabulary, tmp_path, (4, 1))
    policy = trainer.model
    with torch.no_grad():  # away from the reference, so that the loss is not trivially ln 2
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    fast = trainer.compute_loss(policy, collate_pairs(pairs()))
    fast.backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    naive_loss = torch.stack([_whole_dpo(policy, pair) for pair in pairs()]).mean()
    naive_loss.backward()
    torch.testing.assert_close(fast, naive_loss, atol=1e-5, rtol=1e-5)
    assert abs(fast.item() - math.log(2)) > 0.01
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


def _whole_dpo(policy: Any, pair: dict[str, Any]) -> torch.Tensor:
    reference, sums = random_model(3), []
    for model in (policy, reference):
        for side in ("chosen_ids", "rejected_ids"):
            sums.append(naive.logprobs(model, pair["prompt_ids"], pair[side]).sum())
    return dpo(*sums[:2], *[value.detach() for value in sums[2:]], beta=0.5)
