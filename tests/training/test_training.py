"""The trainers: masks, normalisation, and the identity that lets DPO skip the shared prefix."""

import itertools
import math
from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from conftest import padded, random_model
from datasets import Dataset
from transformers import TrainingArguments

from warmup_distill.cluster.places import Here
from warmup_distill.losses import NEED_WHOLE, PREFERENCES, PairLogprobs, nll
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.training.distill import DistillTrainer, collate_completions
from warmup_distill.training.signalling import Signalling, write_signals
from warmup_distill.training.warmup import PromptSampler, WarmupTrainer

ROWS = [
    {"prompt_ids": [5, 6, 7], "completion_ids": [8, 9, 1]},
    {"prompt_ids": [4], "completion_ids": [1]},
    {"prompt_ids": [10, 11, 12, 13], "completion_ids": [14, 15, 16, 17, 18, 1]},
    {"prompt_ids": [20, 21], "completion_ids": [22, 1]},
]
NUMBERED = [{**row, "row": number} for number, row in enumerate(ROWS)]


def arguments(folder: Path, batch_size: int, accumulation: int, **more: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **(
            {"max_steps": 1, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"}
            | more
        ),
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
                "prefix_ref_logprob": _total(model, prompt, prefix),
            }
        )
    return rows


def _total(model: Any, prompt: list[int], completion: list[int]) -> float:
    with torch.no_grad():
        return float(naive.logprobs(model, prompt, completion).sum()) if completion else 0.0


def distill_trainer(
    vocabulary: Vocabulary, folder: Path, split: tuple[int, int], **settings: Any
) -> DistillTrainer:
    return DistillTrainer(
        model=random_model(1),
        vocabulary=vocabulary,
        train_dataset=Dataset.from_list(ROWS),
        **{"teacher": random_model(2), "args": arguments(folder, *split)} | settings,
    )


def warmup_trainer(
    vocabulary: Vocabulary, folder: Path, split: tuple[int, int], **settings: Any
) -> WarmupTrainer:
    return WarmupTrainer(
        model=random_model(3),
        vocabulary=vocabulary,
        beta=0.5,
        train_dataset=Dataset.from_list(pairs()),
        **{"args": arguments(folder, *split)} | settings,
    )


def warmup_trainer_by_rows(
    vocabulary: Vocabulary, folder: Path, split: tuple[int, int]
) -> WarmupTrainer:
    """A batch of all four pairs is three packed rows."""
    trainer = warmup_trainer(vocabulary, folder, split, row_tokens=13)
    assert [len(row["owners"]) for row in trainer.data_collator(pairs())] == [2, 1, 1]
    return trainer


def distill_trainer_by_rows(
    vocabulary: Vocabulary, folder: Path, split: tuple[int, int], **settings: Any
) -> DistillTrainer:
    """A batch of all four rows is three packed ones."""
    trainer = distill_trainer(vocabulary, folder, split, row_tokens=8, **settings)
    batch = collate_completions(NUMBERED)
    assert [row["rows"].tolist() for row in trainer.rows_of(batch)] == [[1, 3], [0], [2]]
    return trainer


def only_row(trainer: WarmupTrainer) -> dict[str, torch.Tensor]:
    (row,) = trainer.data_collator(pairs())
    return row


@pytest.mark.parametrize(
    "build",
    [distill_trainer, distill_trainer_by_rows, warmup_trainer, warmup_trainer_by_rows],
)
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


@pytest.mark.parametrize(
    "builds",
    [(warmup_trainer, warmup_trainer_by_rows), (distill_trainer, distill_trainer_by_rows)],
)
def test_splitting_a_batch_into_packed_rows_changes_nothing(
    builds: Any, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    logs, weights = [], []
    for build in builds:
        trainer = build(vocabulary, tmp_path, (4, 1))
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        logs.append(next(line for line in trainer.state.log_history if "loss" in line))
    assert logs[1] == pytest.approx(logs[0], rel=1e-4, abs=1e-4)
    torch.testing.assert_close(weights[1], weights[0], atol=1e-4, rtol=0)


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
    padded(plain.model, 44)
    padded(plain.teacher.model, 48)
    torch.testing.assert_close(plain.compute_loss(plain.model, batch), expected)


def test_a_padded_head_does_not_change_the_warm_up(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = warmup_trainer(vocabulary, tmp_path, (4, 1))
    batch = only_row(trainer)
    expected = trainer.compute_loss(moved(trainer.model), batch)
    padded(trainer.model, 48)
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), expected)


def test_dpo_starts_at_ln_2(vocabulary: Vocabulary, tmp_path: Path) -> None:
    trainer = warmup_trainer(vocabulary, tmp_path, (4, 1))
    trainer.train()
    first = next(line for line in trainer.state.log_history if "loss" in line)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["reward_margin"] == pytest.approx(0, abs=1e-4)


# Each loss by hand, from the whole completions' log-ratios c and r, means per token where a paper
# says so: expected values that share nothing with the code under test.
LOSSES = {
    "sigmoid": ({}, lambda c, r, nc, nr: math.log1p(math.exp(-0.5 * (c - r)))),
    "conservative": (
        {"loss": "sigmoid", "options": {"label_smoothing": 0.1}},
        lambda c, r, nc, nr: (
            0.9 * math.log1p(math.exp(-0.5 * (c - r))) + 0.1 * math.log1p(math.exp(0.5 * (c - r)))
        ),
    ),
    "robust": (
        {"loss": "robust", "options": {"label_smoothing": 0.1}},
        lambda c, r, nc, nr: (
            (0.9 * math.log1p(math.exp(-0.5 * (c - r))) - 0.1 * math.log1p(math.exp(0.5 * (c - r))))
            / 0.8
        ),
    ),
    "hinge": ({"loss": "hinge"}, lambda c, r, nc, nr: max(0.0, 1 - 0.5 * (c - r))),
    "ipo": ({"loss": "ipo"}, lambda c, r, nc, nr: (c / nc - r / nr - 1.0) ** 2),
}


def moved(model: Any) -> Any:
    """Away from the reference, so that no loss is trivially that of its first step."""
    generator = torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_over_the_tree_is_that_of_whole_completions(
    name: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    settings, by_hand = LOSSES[name]
    trainer = warmup_trainer(vocabulary, tmp_path, (4, 1), **settings)
    policy, reference = moved(trainer.model), random_model(3)
    found = trainer.compute_loss(policy, only_row(trainer))
    expected = []
    for pair in pairs():
        sides = [pair["chosen_ids"], pair["rejected_ids"]]
        ratios = [
            _total(policy, pair["prompt_ids"], s) - _total(reference, pair["prompt_ids"], s)
            for s in sides
        ]
        expected.append(by_hand(*ratios, *map(len, sides)))
    assert found.item() == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_simpo_and_nll_are_those_of_whole_completions(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = warmup_trainer(
        vocabulary, tmp_path, (4, 1), loss="simpo", options={"gamma": 0.3}, nll_weight=0.2
    )
    policy = moved(trainer.model)
    found = trainer.compute_loss(policy, only_row(trainer))
    expected = []
    for pair in pairs():
        chosen, rejected = (
            _total(policy, pair["prompt_ids"], pair[side]) / len(pair[side])
            for side in ("chosen_ids", "rejected_ids")
        )
        simpo = math.log1p(math.exp(-(0.5 * (chosen - rejected) - 0.3)))
        expected.append(simpo - 0.2 * chosen)
    assert found.item() == pytest.approx(sum(expected) / len(expected), abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"loss": "ipo"}, {"nll_weight": 0.5}])
def test_gradients_over_the_tree_are_those_of_whole_completions(
    settings: dict[str, Any], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = warmup_trainer(vocabulary, tmp_path, (4, 1), **settings)
    policy, reference = moved(trainer.model), random_model(3)
    trainer.compute_loss(policy, only_row(trainer)).backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    columns: dict[str, list[torch.Tensor]] = {}
    for pair in pairs():
        for side in ("chosen", "rejected"):
            completion = pair[f"{side}_ids"]
            whole = naive.logprobs(policy, pair["prompt_ids"], completion).sum()
            known = torch.tensor(_total(reference, pair["prompt_ids"], completion))
            columns.setdefault(f"policy_{side}", []).append(whole)
            columns.setdefault(f"reference_{side}", []).append(known)
            count = torch.tensor(float(len(completion)))
            columns.setdefault(f"{side}_tokens", []).append(count)
    whole_pairs = PairLogprobs(
        **{name: torch.stack(values) for name, values in columns.items()}, whole=True
    )
    loss = PREFERENCES[settings.get("loss", "sigmoid")](whole_pairs, beta=0.5)
    if "nll_weight" in settings:
        loss = loss + settings["nll_weight"] * nll(whole_pairs)
    loss.mean().backward()
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted({"nll", *NEED_WHOLE}))
def test_a_loss_that_needs_the_prefix_refuses_to_run_without_it(name: str) -> None:
    numbers = torch.tensor([-3.0])
    endings = PairLogprobs(
        policy_chosen=numbers, policy_rejected=numbers, reference_chosen=numbers,
        reference_rejected=numbers, chosen_tokens=-numbers, rejected_tokens=-numbers, whole=False,
    )  # fmt: skip
    options = {"ipo": {"beta": 0.1}, "simpo": {"beta": 2.0, "gamma": 0.5}, "nll": {}}[name]
    with pytest.raises(ValueError, match="whole completions"):
        {**PREFERENCES, "nll": nll}[name](endings, **options)


def test_every_loss_that_depends_on_the_prefix_is_known_to(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """Move the prefix alone: exactly the losses of `NEED_WHOLE` notice."""
    options = {"simpo": {"gamma": 0.5}, "robust": {"label_smoothing": 0.1}}
    for name, loss in PREFERENCES.items():
        values = [
            loss(
                PairLogprobs(
                    policy_chosen=torch.tensor([-3.0 + shared]),
                    policy_rejected=torch.tensor([-5.0 + shared]),
                    reference_chosen=torch.tensor([-4.0]),
                    reference_rejected=torch.tensor([-4.0]),
                    chosen_tokens=torch.tensor([6.0]),
                    rejected_tokens=torch.tensor([9.0]),
                    whole=True,
                ),
                beta=0.5,
                **options.get(name, {}),
            )
            for shared in (0.0, -2.0)
        ]
        assert (values[0] != values[1]).item() == (name in NEED_WHOLE), name


def test_an_epoch_has_every_pair_once_and_the_pairs_of_a_prompt_together() -> None:
    prompts = [[1], [2, 3], [1], [4], [2, 3], [1]]
    sampler = PromptSampler(prompts, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(6)) and len(sampler) == 6
        runs = [key for key, _ in itertools.groupby(tuple(prompts[i]) for i in order)]
        assert len(runs) == 3
        orders.append(order)
    assert orders == [list(PromptSampler(prompts, seed=0)), *orders[1:]]
    assert len({tuple(order) for order in orders}) > 1


def signalled(
    vocabulary: Vocabulary, folder: Path, kind: Any, rows: list[dict[str, Any]], **settings: Any
) -> DistillTrainer:
    random_model(2).save_pretrained(folder / "teacher")
    task = Signalling(
        teacher=ModelRef.of(str(folder / "teacher"), "float32"), vocabulary=vocabulary, kind=kind,
        top_k=settings.pop("top_k", 5), temperature=settings.get("temperature", 1.0),
    )  # fmt: skip
    signals = write_signals(Here(), task, rows, folder / "signals")
    return distill_trainer(vocabulary, folder, (4, 1), signals=signals, **settings)


@pytest.mark.parametrize("objective", ["forward_kl", "reverse_kl"])
def test_kept_hidden_states_give_the_loss_of_the_live_teacher_in_any_order(
    objective: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    kept = signalled(vocabulary, tmp_path, "hidden", NUMBERED, objective=objective)
    live = distill_trainer(vocabulary, tmp_path, (4, 1), objective=objective)
    for order in ([0, 1, 2, 3], [3, 1], [2]):
        batch = collate_completions([NUMBERED[i] for i in order])
        expected = live.compute_loss(live.model, batch)
        torch.testing.assert_close(kept.compute_loss(kept.model, batch), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_top_k_with_a_tail_bucket_is_the_divergence_of_the_coarser_distributions(
    temperature: float, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    trainer = signalled(vocabulary, tmp_path, "top_k", NUMBERED, temperature=temperature)
    values = []
    for row in ROWS:
        p, q = (
            (naive.completion_logits(m, row["prompt_ids"], row["completion_ids"]) / temperature)
            .softmax(-1)
            .double()
            for m in (random_model(2), trainer.model)
        )
        top = p.topk(5).indices
        kept = [d.gather(-1, top) for d in (p, q)]
        coarse = [torch.cat([part, 1 - part.sum(-1, True)], -1) for part in kept]
        values.append((coarse[0] * (coarse[0] / coarse[1]).log()).sum(-1))
    found = trainer.compute_loss(trainer.model, collate_completions(NUMBERED))
    torch.testing.assert_close(found.double(), torch.cat(values).mean(), atol=1e-5, rtol=1e-5)


def test_top_k_of_all_tokens_but_one_is_the_whole_divergence(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    kept = signalled(vocabulary, tmp_path, "top_k", NUMBERED, top_k=vocabulary.size - 1)
    live = distill_trainer(vocabulary, tmp_path, (4, 1))
    batch = collate_completions(NUMBERED)
    torch.testing.assert_close(
        kept.compute_loss(kept.model, batch), live.compute_loss(live.model, batch)
    )


def test_signals_are_used_again_for_the_same_rows_and_made_again_for_others(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    signalled(vocabulary, tmp_path, "hidden", NUMBERED)
    made = (tmp_path / "signals/part-00000/hidden.npy").stat().st_mtime_ns
    signalled(vocabulary, tmp_path, "hidden", NUMBERED)
    assert (tmp_path / "signals/part-00000/hidden.npy").stat().st_mtime_ns == made
    signalled(vocabulary, tmp_path, "hidden", NUMBERED[:2])
    assert (tmp_path / "signals/part-00000/hidden.npy").stat().st_mtime_ns != made
