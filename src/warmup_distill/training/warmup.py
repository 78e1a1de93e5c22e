"""The warm-up's trainer: DPO on pairs that share prompt and prefix."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from warmup_distill.forward import collate, completion_ids, completion_logits, gather_logprobs
from warmup_distill.losses import dpo
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.vocabulary import Vocabulary

CHOSEN, REJECTED = "chosen_", "rejected_"


class WarmupTrainer(GloballyNormalizedTrainer):
    """Aligns a student by DPO; the reference's log-probabilities come with the pairs.

    Args:
        model: the policy, starting as the reference.
        vocabulary: what teacher and student share; logits are cut to it.
        beta: β of DPO, per nat.
        arguments: those of `transformers.Trainer`. `train_dataset` has the fields of
            `records.Pair`; `args.remove_unused_columns` must be False.
    """

    def __init__(
        self, *, model: Any, vocabulary: Vocabulary, beta: float, **arguments: Any
    ) -> None:
        arguments.setdefault("data_collator", PairCollator(vocabulary.pad_id))
        super().__init__(model=model, vocabulary=vocabulary, **arguments)
        self.beta = beta

    def count(self, inputs: dict[str, Tensor]) -> Tensor:
        """Pairs."""
        return torch.tensor(len(inputs["chosen_ref_logprob"]))

    def summed_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        chosen = self._suffix_logprob(model, inputs, CHOSEN)
        rejected = self._suffix_logprob(model, inputs, REJECTED)
        chosen_ref, rejected_ref = inputs["chosen_ref_logprob"], inputs["rejected_ref_logprob"]
        losses = dpo(chosen, rejected, chosen_ref, rejected_ref, beta=self.beta)
        gain = (chosen - chosen_ref) - (rejected - rejected_ref)
        self.note(
            accuracy=(gain > 0).float().mean(),
            reward_margin=self.beta * gain.mean(),
            chosen_logprob=chosen.mean(),
            rejected_logprob=rejected.mean(),
        )
        return losses.sum()

    def _suffix_logprob(self, model: Any, inputs: dict[str, Tensor], side: str) -> Tensor:
        """Summed log-probability [B] of one side's suffix, from the mismatch index on."""
        batch = {
            name.removeprefix(side): tensor
            for name, tensor in inputs.items()
            if name.startswith(side)
        }
        logits = completion_logits(model, batch, self.vocabulary)
        logprobs = gather_logprobs(logits, completion_ids(batch))
        return torch.where(batch["completion_mask"], logprobs, 0.0).sum(-1)


class PairCollator:
    """Pairs as two padded batches of `prompt + prefix` and suffix."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, pairs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {
            name: torch.tensor([pair[name] for pair in pairs])
            for name in ("chosen_ref_logprob", "rejected_ref_logprob")
        }
        for side in (CHOSEN, REJECTED):
            cuts = [pair["mismatch_index"] for pair in pairs]
            ids = [pair[f"{side}ids"] for pair in pairs]
            prefixes = [
                [*pair["prompt_ids"], *row[:cut]]
                for pair, row, cut in zip(pairs, ids, cuts, strict=True)
            ]
            suffixes = [row[cut:] for row, cut in zip(ids, cuts, strict=True)]
            tensors = collate(prefixes, suffixes, self.pad_id)
            batch |= {f"{side}{name}": tensor for name, tensor in tensors.items()}
        return batch
