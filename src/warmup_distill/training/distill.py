"""The distillation's trainer: a divergence from the teacher on given completions."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.trainer_utils import EvalLoopOutput

from warmup_distill.engines.fitting import MOST_IN_A_PASS
from warmup_distill.engines.paths import packed_model
from warmup_distill.errors import RecipeError
from warmup_distill.ledger.passes import Pass
from warmup_distill.losses import Objective, TaidSchedule, forward_kl_top_k
from warmup_distill.models.placing import placed
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe.distillation import DistillSection
from warmup_distill.recipe.given import section_of
from warmup_distill.training.base import GloballyNormalizedTrainer, pass_over
from warmup_distill.training.chunked import summed_in_parts
from warmup_distill.training.completions import StudentCompletions, StudentShare
from warmup_distill.training.given import given_model
from warmup_distill.training.signals import TeacherSignals
from warmup_distill.tree.heads import Head
from warmup_distill.tree.pack import Pack, batches_by_size, pack_completions, some_of


class DistillTrainer(GloballyNormalizedTrainer):
    """Distils a teacher into a student.

    Args:
        model: the student, or its name.
        teacher: or its name; may be None for `sft` and with `signals`. Moved to the student's
            device, unless it is spread over several or quantized.
        vocabulary: what both share; logits are cut to it. If absent, the one of
            `processing_class`, or of the tokenizer that came with the student.
        objective: a key of `losses.DIVERGENCES`, or `sft`.
        options: what the objective takes besides; for `taid` those of `losses.TaidSchedule`.
        cross_entropy_weight: w in (1 − w) · divergence + w · cross-entropy.
        temperature: divides both logits in the divergence.
        temperature_squared: multiply the divergence by temperature².
        student_share: how often the student draws the completions itself.
        signals: the teacher's, kept on disk; rows are then named by their column `row`.
        teacher_head: what signals of hidden states need of the teacher, if it is not given.
        row_tokens: a batch runs in rows of so many tokens at the most, or of one sequence, which
            changes its loss and gradient by rounding alone.
        arguments: those of `transformers.Trainer`, and `peft_config`. `train_dataset` has
            `prompt_ids` and `completion_ids`.

    Raises:
        RecipeError: a setting is not one that the recipe's section `distill` would take.
        DataError: a data set has other columns.
    """

    def __init__(
        self,
        *,
        model: Any,
        teacher: Any = None,
        vocabulary: Vocabulary | None = None,
        objective: str = "forward_kl",
        options: Mapping[str, Any] | None = None,
        cross_entropy_weight: float = 0.0,
        temperature: float = 1.0,
        temperature_squared: bool = False,
        student_share: StudentShare | None = None,
        signals: TeacherSignals | None = None,
        teacher_head: Head | None = None,
        row_tokens: int = MOST_IN_A_PASS,
        **arguments: Any,
    ) -> None:
        given = dict(options or {})
        mixture: dict[str, Any] = {
            "cross_entropy_weight": cross_entropy_weight,
            "temperature": temperature,
            "temperature_squared": temperature_squared,
        }
        settings = {"objective": objective, "row_tokens": row_tokens, **mixture}
        section_of(DistillSection, settings | {"options": given})
        if teacher is None and signals is None and objective != "sft":
            raise RecipeError(f"teacher: the objective {objective} needs one, got None.")
        teacher = given_model(teacher, "teacher")
        super().__init__(
            model=model,
            vocabulary=vocabulary,
            others={"teacher": teacher} if teacher is not None else {},
            columns=["prompt_ids", "completion_ids"],
            optional_columns=["row"],
            **arguments,
        )
        if student_share and self.is_fsdp_enabled:
            raise RecipeError(
                "student_share: FSDP leaves no process a whole student to draw completions from. "
                "Leave one of the two out."
            )
        self.teacher = None
        if teacher is not None:
            self.teacher = packed_model(placed(teacher, self.args.device), self.vocabulary)
        self.teacher_head = teacher_head
        if teacher_head is not None and teacher_head.layer is not None:
            teacher_head.layer.to(self.args.device)
        by_length = self.policy.by_length or (self.teacher is not None and self.teacher.by_length)
        if arguments.get("data_collator") is None:
            self.data_collator: Any = partial(collate_completions, to_the_end=by_length)
        self.schedule = TaidSchedule(**given) if objective == "taid" else None
        self.objective: Objective = Objective(
            name=objective, options={} if self.schedule else given, **mixture
        )
        self.completions = (
            StudentCompletions(
                self.policy,
                student_share,
                self.args.process_index,
                to_the_end=by_length,
                ran=self.ran,
            )
            if student_share
            else None
        )
        self.signals = signals
        self.row_tokens = row_tokens
        self._step_loss: float | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of an optimizer step and what their loss is divided by."""
        self._end_step()
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.completions is None or not batches:
            return batches, count
        batches = self.completions.of_step(batches, self.state.global_step, self._progress())
        self.note(student_share=torch.tensor(self.completions.share))
        return batches, self._get_num_items_in_batch(batches, device)

    def rows_of(self, inputs: dict[str, Tensor]) -> Sequence[dict[str, Tensor]]:
        """See `GloballyNormalizedTrainer.rows_of`: some of the batch's sequences each."""
        batches = batches_by_size(inputs["lengths"].tolist(), self.row_tokens)
        return [inputs] if len(batches) == 1 else [some_of(inputs, one) for one in batches]

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *more: Any, **named: Any) -> Any:
        result = super().compute_loss(model, inputs, *more, **named)
        loss = result[0] if isinstance(result, tuple) else result
        if self.schedule:
            self._step_loss = (self._step_loss or 0.0) + float(loss.detach())
        return result

    def evaluation_loop(self, *arguments: Any, **keywords: Any) -> EvalLoopOutput:
        """See `GloballyNormalizedTrainer.evaluation_loop`."""
        if self.signals is not None:
            raise RecipeError(
                "eval_dataset: `signals` hold what the teacher says of the rows that are trained "
                "on, and of no others. Leave them out to ask the teacher itself."
            )
        return super().evaluation_loop(*arguments, **keywords)

    def own_state(self) -> dict[str, Any]:
        """See `GloballyNormalizedTrainer.own_state`; where TAID and DistiLLM's schedule are."""
        state = super().own_state() | {"step_loss": self._step_loss}
        if self.schedule:
            state["schedule"] = self.schedule.state()
        if self.completions and self.completions.adaptive:
            state["adaptive"] = self.completions.adaptive.state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._step_loss = state["step_loss"]
        if self.schedule:
            self.schedule.restore(state["schedule"])
        if self.completions and self.completions.adaptive:
            self.completions.adaptive.restore(state["adaptive"])

    def _end_step(self) -> None:
        """Move TAID's target by the loss of the whole optimizer step, on all processes alike."""
        loss, self._step_loss = self._step_loss, None
        if self.schedule and loss is not None:
            reduced = self.accelerator.reduce(torch.tensor(loss, device=self.args.device), "mean")
            self.schedule.update(float(reduced), self._progress())

    def _progress(self) -> float:
        return self.state.global_step / max(1, self.state.max_steps)

    def count(self, inputs: dict[str, Tensor]) -> Tensor:
        """Completion tokens, end-of-sequence included."""
        return torch.tensor(len(inputs["targets"]))

    def summed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        pack = Pack(inputs["lengths"].tolist(), inputs["input_ids"].device)
        hidden = self.predicting(inputs, pack)
        signal, ids = self._signal(inputs, pack), inputs["targets"]

        def part(states: Tensor, some: slice) -> Tensor:
            piece = {name: values[some] for name, values in signal.items()}
            return self._values(piece, self.policy.logits(states), ids[some]).sum()

        head, at_once = self.policy.head, max(1, self.policy.positions_at_once // 2)  # two models'
        return head.inside(
            lambda states: summed_in_parts(part, states, head.parameters(), at_once), hidden
        )

    @torch.no_grad()
    def _signal(self, inputs: dict[str, Tensor], pack: Pack) -> dict[str, Tensor]:
        """What the teacher says at each position: kept on disk, or its hidden states now."""
        if self.objective.name == "sft":
            return {}
        if self.signals is not None:
            heads = len(inputs["targets"]) if self.signals.need_head else 0
            self.ran.add(taught=Pass(predictions=heads))
            return self.signals.of(inputs["rows"].tolist(), inputs["input_ids"].device)
        assert self.teacher is not None
        self.ran.add(taught=pass_over(inputs, pack))
        device = self.teacher.device
        if device != inputs["input_ids"].device:
            pack = Pack(pack.lengths, device)
        with self.teacher.following():
            hidden = self.teacher.hidden(inputs["input_ids"].to(device), pack)
        return {"hidden": hidden[inputs["predictors"].to(device)]}

    def _values(self, signal: dict[str, Tensor], logits: Tensor, ids: Tensor) -> Tensor:
        """The objective at each position."""
        mask = torch.ones_like(ids, dtype=torch.bool)
        if "rest" in signal:
            top = signal["logprobs"], signal["ids"], signal["rest"]
            values = forward_kl_top_k(*top, logits, temperature=self.objective.temperature)
            return self.objective.mixed(values, logits, ids, mask)
        reference = None
        if signal:
            with torch.no_grad():
                reference = self._reference(signal).to(logits.device)
        moving = {"t": self.schedule.t} if self.schedule else {}
        return self.objective(reference, logits, ids, mask, **moving)

    def _reference(self, signal: dict[str, Tensor]) -> Tensor:
        """The teacher's logits."""
        if "logits" in signal:
            return self.vocabulary.ban(signal["logits"])
        if self.teacher is not None:
            return self.teacher.logits(signal["hidden"])
        if self.teacher_head is None:
            raise RecipeError(
                "teacher_head: signals that are hidden states need the teacher's head; give it, or "
                "the teacher."
            )
        return self.teacher_head.logits(signal["hidden"])


def collate_completions(
    rows: Sequence[dict[str, Any]], *, to_the_end: bool = False
) -> dict[str, Tensor]:
    """Rows of `prompt_ids` and `completion_ids`, packed, and their numbers if they have a `row`."""
    prompts = [row["prompt_ids"] for row in rows]
    completions = [row["completion_ids"] for row in rows]
    batch = pack_completions(prompts, completions, to_the_end=to_the_end)
    if "row" in rows[0]:
        batch["rows"] = torch.tensor([row["row"] for row in rows])
    return batch
