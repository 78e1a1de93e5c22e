"""The distillation's trainer: a divergence from the teacher on given completions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.losses import distillation
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.training.chunked import summed_in_parts
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.pack import Pack, pack_completions
from warmup_distill.vocabulary import Vocabulary


class DistillTrainer(GloballyNormalizedTrainer):
    """Distils a teacher into a student.

    Args:
        model: the student.
        teacher: on the student's device, in evaluation mode; may be None for `sft`.
        vocabulary: what both share; logits are cut to it.
        objective: `forward_kl`, `reverse_kl` or `sft`.
        cross_entropy_weight: w in (1 − w) · divergence + w · cross-entropy.
        temperature: divides both logits in the divergence.
        arguments: those of `transformers.Trainer`. `train_dataset` has `prompt_ids` and
            `completion_ids`; `args.remove_unused_columns` must be False.
    """

    def __init__(
        self,
        *,
        model: Any,
        teacher: PreTrainedModel | None,
        vocabulary: Vocabulary,
        objective: str = "forward_kl",
        cross_entropy_weight: float = 0.0,
        temperature: float = 1.0,
        **arguments: Any,
    ) -> None:
        arguments.setdefault("data_collator", collate_completions)
        super().__init__(model=model, vocabulary=vocabulary, **arguments)
        self.teacher = TreeModel(teacher, vocabulary) if teacher else None
        self.objective: str = objective
        self.cross_entropy_weight = cross_entropy_weight
        self.temperature = temperature

    def count(self, inputs: dict[str, Tensor]) -> Tensor:
        """Completion tokens, end-of-sequence included."""
        return torch.tensor(len(inputs["targets"]))

    def summed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        pack = Pack(inputs["lengths"].tolist(), inputs["input_ids"].device)
        places, ids = inputs["predictors"], inputs["targets"]
        teacher_hidden = self._teacher_hidden(inputs, pack)

        def part(states: Tensor, some: slice) -> Tensor:
            return distillation(
                self.objective,
                self._teacher_logits(teacher_hidden, some),
                self.policy.logits(states),
                ids[some],
                torch.ones_like(ids[some], dtype=torch.bool),
                cross_entropy_weight=self.cross_entropy_weight,
                temperature=self.temperature,
            ).sum()

        hidden = self.policy.hidden(inputs["input_ids"], pack)[places]
        return summed_in_parts(
            part, hidden, self.policy.head_parameters(), self.policy.positions_at_once
        )

    @torch.no_grad()
    def _teacher_hidden(self, inputs: dict[str, Tensor], pack: Pack) -> Tensor | None:
        if self.teacher is None or self.objective == "sft":
            return None
        with self.teacher.following():
            return self.teacher.hidden(inputs["input_ids"], pack)[inputs["predictors"]]

    @torch.no_grad()
    def _teacher_logits(self, hidden: Tensor | None, some: slice) -> Tensor | None:
        return None if hidden is None or self.teacher is None else self.teacher.logits(hidden[some])


def collate_completions(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Rows of `prompt_ids` and `completion_ids`, packed; see `pack_completions`."""
    prompts = [row["prompt_ids"] for row in rows]
    return pack_completions(prompts, [row["completion_ids"] for row in rows])
