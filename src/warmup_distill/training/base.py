"""What both trainers share: one global normaliser, extra log values, a state of their own."""

import abc
import contextlib
import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from warmup_distill.engines.paths import packed_model
from warmup_distill.errors import NumbersError
from warmup_distill.ledger.passes import Pass
from warmup_distill.ledger.ran import Ran
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.training.adapters import with_adapters
from warmup_distill.training.asked import require_as_asked
from warmup_distill.training.finite import FiniteGradients
from warmup_distill.training.given import (
    given_model,
    given_tokenizer,
    given_vocabulary,
    require_columns,
    require_effect,
    require_one_device,
)
from warmup_distill.training.passes import exchanging, passes_of
from warmup_distill.training.ranks import gathered
from warmup_distill.training.repeatable import repeatable
from warmup_distill.training.shares import shared_out
from warmup_distill.training.validation import means_of, validate_rows
from warmup_distill.tree.attention import Layout
from warmup_distill.tree.inside import inside

OWN_STATE = "own_state.json"
"""In a checkpoint: what our trainers keep besides, such as where TAID's target is."""

UNCACHED = AutocastKwargs(cache_enabled=False)
"""Blocks of the loss have a backward pass each, and a weight cast for one has no graph for two."""


class GloballyNormalizedTrainer(Trainer, abc.ABC):
    """A Trainer whose loss is a sum divided once by the count of the whole optimizer step.

    So neither gradient accumulation nor the number of processes changes a gradient. A subclass
    says what it counts and returns the sum over its micro-batch.

    Args:
        model: what is trained, or its name.
        vocabulary: whose tokens count; if absent, the one of `processing_class`, or of the
            tokenizer that came with the model.
        others: models besides, by role, that the vocabulary must fit too.
        columns: what the data sets must have.
        optional_columns: what is read where they have it.
        peft_config: trains new adapters of `peft` instead of all weights.
        arguments: those of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        model: Any,
        vocabulary: Vocabulary | None,
        others: dict[str, Any],
        columns: list[str],
        optional_columns: list[str],
        peft_config: Any = None,
        **arguments: Any,
    ) -> None:
        require_effect(arguments)
        for name in ("train_dataset", "eval_dataset"):
            require_columns(arguments.get(name), name, columns)
        model = given_model(model, "model")
        require_one_device(model)
        arguments["processing_class"] = given_tokenizer(arguments.get("processing_class"))
        vocabulary = vocabulary or given_vocabulary(
            arguments["processing_class"], {"model": model, **others}
        )
        if peft_config is not None:
            seed = getattr(arguments.get("args"), "seed", TrainingArguments.seed)
            model = with_adapters(model, peft_config, seed)
        super().__init__(model=model, **arguments)
        self._signature_columns: Any = [*columns, *optional_columns]
        self.vocabulary = vocabulary
        self.loss_is_scaled_for_ga = True
        self.policy = packed_model(_without_adapters(model), vocabulary)
        self.policy.device = self.args.device  # where FSDP and DeepSpeed will have moved it
        require_as_asked(self)
        self.ran = Ran()
        self._extra: dict[str, list[float]] = defaultdict(list)
        self.add_callback(FiniteGradients())

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """See `transformers.Trainer.train`; the same weights come out twice."""
        with repeatable(self.args.device):
            return super().train(*arguments, **keywords)

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Tensor | float | None = None
    ) -> Tensor:
        """See `transformers.Trainer.training_step`; a batch's packed rows run one after the other.

        Attention follows our layouts until the gradients are there, for checkpointed layers run
        again in the backward pass, and not longer, so that callbacks find an ordinary model.
        """
        losses = []
        passes = passes_of(self, inputs, self.train_dataset)
        for number, (row, counts) in enumerate(passes, start=1):
            # What does not count is divided by infinity, and with it the gradient.
            total: Any = num_items_in_batch if counts else math.inf
            noting = contextlib.nullcontext() if counts else self.uncounted()
            waiting = exchanging(self, model, last=number == len(passes))
            with waiting, noting, self.policy.following():
                losses.append(super().training_step(model, row, total))
        return torch.stack(losses).sum()

    def get_train_dataloader(self) -> Any:
        """See `transformers.Trainer.get_train_dataloader`; several processes share out the rows."""
        passes = self.args.gradient_accumulation_steps
        return shared_out(super().get_train_dataloader(), self.owners, passes)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """See `transformers.Trainer.get_eval_dataloader`; several processes share out the rows."""
        return shared_out(super().get_eval_dataloader(eval_dataset), self.owners, 1)

    def owners(self, dataset: Any) -> Sequence[Hashable]:
        """What keeps rows of a data set together, by row; here each is by itself."""
        return range(len(dataset))

    def rows_of(self, inputs: Any) -> Sequence[dict[str, Tensor]]:
        """The packed rows of a batch of the collator, each small enough for one pass."""
        return [inputs]

    @abc.abstractmethod
    def count(self, inputs: Any) -> Tensor:
        """What the loss is averaged over in one batch of the collator: valid tokens, or pairs."""

    @abc.abstractmethod
    def summed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of `policy` summed over one micro-batch."""

    def predicting(self, inputs: dict[str, Tensor], layout: Layout, *, repeated: int = 0) -> Tensor:
        """States [N, E] of `policy` that predict each target of a packed row; counted in `ran`.

        Args:
            repeated: positions whose logits the backward pass computes again.
        """
        hidden = self.policy.hidden(inputs["input_ids"], layout)
        one = pass_over(inputs, layout)
        if not torch.is_grad_enabled():
            self.ran.add(scored=one)
        else:
            kept = self.args.activation_checkpointing
            tokens, keys = (one.tokens, one.keys) if kept else (0, 0)
            again = Pass(tokens=tokens, keys=keys, predictions=repeated)
            self.ran.add(trained=one, again=again)
        return hidden[inputs["predictors"]]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        total = self.count(inputs) if num_items_in_batch is None else num_items_in_batch
        with self.policy.following(), self.accelerator.autocast(UNCACHED):
            loss = inside(model, lambda: self.summed_loss(inputs)) / total
        if not torch.isfinite(loss):
            rows = inputs["rows"].tolist() if "rows" in inputs else "(not numbered)"
            raise NumbersError(
                f"the loss of step {self.state.global_step + 1} is {float(loss.detach())}, in the "
                f"rows {rows} of the training data. The last checkpoint is kept. Lower the "
                "learning rate, or look at these rows."
            )
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # for gradients are averaged over them
        return (loss, {}) if return_outputs else loss

    def mean_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of one micro-batch by itself, which no schedule of the training learns of."""
        loss: Tensor = GloballyNormalizedTrainer.compute_loss(self, model, inputs)
        return loss

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """See `transformers.Trainer.evaluation_loop`: the loss of held-out rows."""
        return validate_rows(self, dataloader, metric_key_prefix)

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Tensor]], device: torch.device
    ) -> Tensor:
        total = sum(int(self.count(inputs)) for inputs in batch_samples if inputs)
        everywhere: Tensor = self.accelerator.gather(torch.tensor(total, device=device))
        return everywhere.sum()

    def own_state(self) -> dict[str, Any]:
        """What to give to `restore` to go on from here."""
        return {"extra": dict(self._extra), "ran": self.ran.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `own_state` gave when a checkpoint was written."""
        self._extra.update({name: list(values) for name, values in state["extra"].items()})
        self.ran.restore(state["ran"])

    def recall(self, checkpoint: Path) -> None:
        """Take over what a checkpoint has of it."""
        self.restore(read_json(checkpoint / self._own_state_file))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self._get_output_dir(trial=trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        write_json(folder / name / self._own_state_file, self.own_state())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint and (Path(checkpoint) / self._own_state_file).exists():
            self.recall(Path(checkpoint))

    @property
    def _own_state_file(self) -> str:
        """Each process has its own, for each draws completions of its own."""
        rank = self.args.process_index
        return f"{rank}_{OWN_STATE}" if rank else OWN_STATE

    def note(self, **values: Tensor) -> None:
        """Keep values, one or many; the mean of all goes into the next log line."""
        for name, some in values.items():
            self._extra[name] += some.detach().flatten().tolist()

    @contextlib.contextmanager
    def noting_apart(self) -> Iterator[dict[str, list[float]]]:
        """What is noted in the block comes out here, and not into the next log line."""
        kept, self._extra = self._extra, defaultdict(list)
        try:
            yield self._extra
        finally:
            self._extra = kept

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Neither what is noted in the block nor what runs there counts."""
        before = self.ran.state()
        with self.noting_apart():
            yield
        self.ran.restore(before)

    def log(self, logs: dict[str, float], *arguments: Any, **keywords: Any) -> None:
        if "loss" in logs:
            logs |= means_of(gathered(dict(self._extra)))
            self._extra.clear()
        super().log(logs, *arguments, **keywords)


def pass_over(row: dict[str, Tensor], layout: Layout) -> Pass:
    """What a packed row is to the model that runs it."""
    return Pass(
        tokens=len(row["input_ids"]),
        keys=int((layout.positions + 1).sum()),
        predictions=len(row["targets"]),
    )


def _without_adapters(model: Any) -> PreTrainedModel:
    """The model under peft's wrapper, adapters in place."""
    inner: PreTrainedModel = model.get_base_model() if hasattr(model, "peft_config") else model
    return inner
