"""The distillation's trainer: a divergence from the teacher on given completions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.forward import collate, completion_ids, completion_logits
from warmup_distill.losses import distillation
from warmup_distill.training.base import GloballyNormalizedTrainer
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
        arguments.setdefault("data_collator", CompletionCollator(vocabulary.pad_id))
        super().__init__(model=model, vocabulary=vocabulary, **arguments)
        self.teacher = teacher
        self.objective: str = objective
        self.cross_entropy_weight = cross_entropy_weight
        self.temperature = temperature

    def count(self, inputs: dict[str, Tensor]) -> Tensor:
        """Completion tokens, end-of-sequence included."""
        return inputs["completion_mask"].sum()

    def summed_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        return distillation(
            self.objective,
            self._teacher_logits(inputs),
            completion_logits(model, inputs, self.vocabulary),
            completion_ids(inputs),
            inputs["completion_mask"],
            cross_entropy_weight=self.cross_entropy_weight,
            temperature=self.temperature,
        ).sum()

    @torch.no_grad()
    def _teacher_logits(self, inputs: dict[str, Tensor]) -> Tensor | None:
        if self.teacher is None or self.objective == "sft":
            return None
        return completion_logits(self.teacher, inputs, self.vocabulary)


class CompletionCollator:
    """Rows of `prompt_ids` and `completion_ids` as one padded batch."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        prompts = [row["prompt_ids"] for row in rows]
        return collate(prompts, [row["completion_ids"] for row in rows], self.pad_id)
