"""The warm-up's trainer: DPO on pairs that share prompt and prefix."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from warmup_distill.losses import dpo
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.tree.pairs import CHOSEN, PairTree, plant
from warmup_distill.vocabulary import Vocabulary


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
        arguments.setdefault("data_collator", collate_pairs)
        super().__init__(model=model, vocabulary=vocabulary, **arguments)
        self.beta = beta

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return PromptSampler(dataset["prompt_ids"], self.args.seed)

    def count(self, inputs: dict[str, Tensor]) -> Tensor:
        """Pairs."""
        return torch.tensor(len(inputs["chosen_ref_logprob"]))

    def summed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        chosen, rejected = self._ending_logprobs(inputs)
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

    def _ending_logprobs(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Summed log-probabilities [B] of chosen and rejected, from the mismatch index on."""
        tree = PairTree(inputs["prompts"], inputs["owners"], inputs["parts"])
        hidden = self.policy.hidden(inputs["input_ids"], tree)[inputs["predictors"]]
        logprobs = self.policy.logprobs(hidden, inputs["targets"])
        is_chosen = inputs["part"] == CHOSEN
        sums = logprobs.new_zeros(2, len(inputs["owners"]))
        sums = sums.index_put((is_chosen.long(), inputs["pair"]), logprobs, accumulate=True)
        return sums[1], sums[0]


class PromptSampler(Sampler[int]):
    """Prompts in random order, the pairs of each together, so that a batch runs a prompt once."""

    def __init__(self, prompts: Sequence[Sequence[int]], seed: int) -> None:
        self.groups: dict[tuple[int, ...], list[int]] = {}
        for index, prompt in enumerate(prompts):
            self.groups.setdefault(tuple(prompt), []).append(index)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader; every epoch has an order of its own."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        groups = list(self.groups.values())
        for number in torch.randperm(len(groups), generator=generator).tolist():
            yield from groups[number]


def collate_pairs(pairs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Pairs as one packed row; see `tree.pairs.plant`."""
    references = {
        name: torch.tensor([pair[name] for pair in pairs])
        for name in ("chosen_ref_logprob", "rejected_ref_logprob")
    }
    return plant(pairs, keep_prefix=False) | references
