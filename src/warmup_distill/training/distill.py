"""The distillation's trainer: a divergence from the teacher on given completions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from warmup_distill.losses import distillation, forward_kl_top_k, mixed
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.training.chunked import summed_in_parts
from warmup_distill.training.signals import TeacherSignals
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
        signals: the teacher's, kept on disk; rows are then named by their column `row`.
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
        signals: TeacherSignals | None = None,
        **arguments: Any,
    ) -> None:
        arguments.setdefault("data_collator", collate_completions)
        super().__init__(model=model, vocabulary=vocabulary, **arguments)
        self.teacher = TreeModel(teacher, vocabulary) if teacher else None
        self.objective: str = objective
        self.cross_entropy_weight = cross_entropy_weight
        self.temperature = temperature
        self.signals = signals

    def count(self, inputs: dict[str, Tensor]) -> Tensor:
        """Completion tokens, end-of-sequence included."""
        return torch.tensor(len(inputs["targets"]))

    def summed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        pack = Pack(inputs["lengths"].tolist(), inputs["input_ids"].device)
        hidden = self.policy.hidden(inputs["input_ids"], pack)[inputs["predictors"]]
        signal, ids = self._signal(inputs, pack), inputs["targets"]

        def part(states: Tensor, some: slice) -> Tensor:
            piece = {name: values[some] for name, values in signal.items()}
            return self._values(piece, self.policy.logits(states), ids[some]).sum()

        return summed_in_parts(
            part, hidden, self.policy.head_parameters(), self.policy.positions_at_once
        )

    @torch.no_grad()
    def _signal(self, inputs: dict[str, Tensor], pack: Pack) -> dict[str, Tensor]:
        """What the teacher says at each position: kept on disk, or its hidden states now."""
        if self.objective == "sft":
            return {}
        if self.signals is not None:
            return self.signals.of(inputs["rows"].tolist(), inputs["input_ids"].device)
        assert self.teacher is not None
        with self.teacher.following():
            hidden = self.teacher.hidden(inputs["input_ids"], pack)
        return {"hidden": hidden[inputs["predictors"]]}

    def _values(self, signal: dict[str, Tensor], logits: Tensor, ids: Tensor) -> Tensor:
        """The objective at each position."""
        mask, weight = torch.ones_like(ids, dtype=torch.bool), self.cross_entropy_weight
        if "rest" in signal:
            top = signal["logprobs"], signal["ids"], signal["rest"]
            values = forward_kl_top_k(*top, logits, temperature=self.temperature)
            return mixed(values, logits, ids, mask, weight)
        reference = None
        if "hidden" in signal and self.teacher is not None:
            with torch.no_grad():
                reference = self.teacher.logits(signal["hidden"])
        return distillation(
            self.objective,
            reference,
            logits,
            ids,
            mask,
            cross_entropy_weight=weight,
            temperature=self.temperature,
        )


def collate_completions(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Rows of `prompt_ids` and `completion_ids`, packed, and their numbers if they have a `row`."""
    prompts = [row["prompt_ids"] for row in rows]
    batch = pack_completions(prompts, [row["completion_ids"] for row in rows])
    if "row" in rows[0]:
        batch["rows"] = torch.tensor([row["row"] for row in rows])
    return batch
