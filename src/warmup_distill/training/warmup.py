"""The warm-up's trainer: preference optimization on pairs that share prompt and prefix."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Sampler

from warmup_distill.engines.fitting import MOST_IN_A_PASS
from warmup_distill.errors import ModelError, RecipeError
from warmup_distill.losses import NEED_REFERENCE, NEED_WHOLE, PREFERENCES, PairLogprobs, nll
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.recipe.given import section_of
from warmup_distill.recipe.training import WarmupSection
from warmup_distill.training.base import GloballyNormalizedTrainer
from warmup_distill.tree.attention import Layout
from warmup_distill.tree.pack import Pack
from warmup_distill.tree.packed import PackedModel
from warmup_distill.tree.pairs import (
    CHOSEN,
    PREFIX,
    REJECTED,
    PairTree,
    plant,
    plant_apart,
    split_to_rows,
)

CLOSE = 1e-3
"""How far from ln 2 the first loss may be, in nats."""

COLUMNS = (
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "mismatch_index",
    "chosen_ref_logprob",
    "rejected_ref_logprob",
)
"""What every loss reads of a pair; some read `prefix_ref_logprob` too."""


class WarmupTrainer(GloballyNormalizedTrainer):
    """Aligns a student to its teacher; the reference's log-probabilities come with the pairs.

    Prompt and prefix of a pair run once, and the prompt once for all pairs of it in a packed row.
    A batch is one such row, or several with a backward pass each where it has more tokens than one
    row may hold.

    Args:
        model: the policy, starting as the reference; or its name.
        vocabulary: what teacher and student share; logits are cut to it. If absent, the one of
            `processing_class`, or of the tokenizer that came with the model.
        beta: β of the loss, per nat.
        loss: a key of `losses.PREFERENCES`.
        nll_weight: of the negative log-likelihood of the chosen side, per token, added to the loss.
        options: what else the loss takes, such as `label_smoothing` or `gamma`.
        starts_as_reference: the pairs were scored by this very policy, so the first loss must say
            so; False for a policy that has been trained on them before.
        row_tokens: a packed row holds so many tokens at the most, or a single pair.
        arguments: those of `transformers.Trainer`, and `peft_config`. `train_dataset` is what
            `build_pairs` returns, or has its `COLUMNS`, and `prefix_ref_logprob` where
            `needs_prefix` says so.

    Raises:
        RecipeError: a setting is not one that the recipe's section `warmup` would take.
        DataError: a data set has other columns.
    """

    def __init__(
        self,
        *,
        model: Any,
        vocabulary: Vocabulary | None = None,
        beta: float = 0.1,
        loss: str = "sigmoid",
        nll_weight: float = 0.0,
        options: Mapping[str, float] | None = None,
        starts_as_reference: bool = True,
        row_tokens: int = MOST_IN_A_PASS,
        **arguments: Any,
    ) -> None:
        self.preference = _preference(loss, options or {}, beta, nll_weight, row_tokens)
        self.keep_prefix = needs_prefix(loss, nll_weight)
        super().__init__(
            model=model,
            vocabulary=vocabulary,
            others={},
            columns=[*COLUMNS, *(["prefix_ref_logprob"] if self.keep_prefix else [])],
            optional_columns=["row"],
            **arguments,
        )
        if arguments.get("data_collator") is None:
            self.data_collator: Any = PairCollator(
                keep_prefix=self.keep_prefix, row_tokens=row_tokens, policy=self.policy
            )
        self.beta = beta
        self.nll_weight = nll_weight
        self.starts_as_reference = starts_as_reference and loss in NEED_REFERENCE
        self._to_compare = False

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """See `transformers.Trainer.train`; the first loss must be that of the reference."""
        self._to_compare = self.starts_as_reference
        return super().train(*arguments, **keywords)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return PromptSampler(self.owners(dataset), self.args.seed)

    def owners(self, dataset: Any) -> Sequence[tuple[int, ...]]:
        """See `GloballyNormalizedTrainer.owners`: the prompts, for a pass runs each once."""
        listed = isinstance(dataset, list)
        prompts = [row["prompt_ids"] for row in dataset] if listed else dataset["prompt_ids"]
        return [tuple(prompt) for prompt in prompts]

    def rows_of(self, inputs: Any) -> Sequence[dict[str, Tensor]]:
        """See `GloballyNormalizedTrainer.rows_of`: the collator has packed them."""
        rows: Sequence[dict[str, Tensor]] = inputs
        return rows

    def count(self, inputs: Any) -> Tensor:
        """Pairs of a batch, or of one packed row of it."""
        rows = [inputs] if isinstance(inputs, dict) else inputs
        return torch.tensor(sum(len(row["owners"]) for row in rows))

    def summed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        pairs = self._pair_logprobs(inputs)
        if self._to_compare:
            self._require_reference(pairs)
        losses = self.preference(pairs)
        if self.nll_weight:
            losses = losses + self.nll_weight * nll(pairs)
        self.note(
            accuracy=pairs.won.float(),
            reward_margin=self.beta * pairs.gain,
            chosen_logprob=pairs.policy_chosen,
            rejected_logprob=pairs.policy_rejected,
        )
        return losses.sum()

    def _require_reference(self, pairs: PairLogprobs) -> None:
        """Before the first step policy and reference are one, and DPO's loss is ln 2.

        Raises:
            ModelError: it is not; in float32 alone, for bfloat16 rounds more than that.
        """
        self._to_compare = False
        # DeepSpeed casts the model itself.
        rounds = self.is_deepspeed_enabled or torch.is_autocast_enabled(self.policy.device.type)
        if self.state.global_step > 0 or rounds:
            return
        loss = float(-F.logsigmoid(self.beta * pairs.gain.detach()).mean())
        if abs(loss - math.log(2)) > CLOSE or not math.isfinite(loss):
            raise ModelError(
                f"before the first step the loss of preferences should be ln 2 = 0.6931, and it is "
                f"{loss:.4f}: the policy is not the reference that scored the pairs. Build the "
                "pairs with the model that is trained and with the same dtype (or, in a script "
                "that goes on with a trained policy, give starts_as_reference=False)."
            )

    def _pair_logprobs(self, inputs: dict[str, Tensor]) -> PairLogprobs:
        """Sums over the endings, and over what comes before them where the loss needs it."""
        ids = inputs["targets"]
        repeated = len(ids) if self.policy.repeats(len(ids)) else 0
        hidden = self.predicting(inputs, _layout(inputs), repeated=repeated)
        logprobs = self.policy.logprobs(hidden, ids)
        cells = inputs["part"], inputs["pair"]
        nothing = logprobs.new_zeros(3, len(inputs["owners"]))
        sums = nothing.index_put(cells, logprobs, accumulate=True)
        tokens = nothing.index_put(cells, torch.ones_like(logprobs), accumulate=True)
        shared = inputs["prefix_ref_logprob"] if self.keep_prefix else 0.0
        return PairLogprobs(
            policy_chosen=sums[PREFIX] + sums[CHOSEN],
            policy_rejected=sums[PREFIX] + sums[REJECTED],
            reference_chosen=shared + inputs["chosen_ref_logprob"],
            reference_rejected=shared + inputs["rejected_ref_logprob"],
            chosen_tokens=tokens[PREFIX] + tokens[CHOSEN],
            rejected_tokens=tokens[PREFIX] + tokens[REJECTED],
            whole=self.keep_prefix,
        )


def _layout(inputs: dict[str, Tensor]) -> Layout:
    """Of a row of the collator: pairs as trees, or their sides apart."""
    if "lengths" in inputs:
        return Pack(inputs["lengths"].tolist(), inputs["input_ids"].device)
    return PairTree(inputs["prompts"], inputs["owners"], inputs["parts"])


def _preference(
    loss: str, options: Mapping[str, float], beta: float, nll_weight: float, row_tokens: int
) -> Callable[[PairLogprobs], Tensor]:
    """The loss of a pair, from settings that are held to those of the recipe."""
    settings = {"beta": beta, "loss": loss, "nll_weight": nll_weight, "row_tokens": row_tokens}
    section: WarmupSection = section_of(WarmupSection, settings | dict(options))
    taken = section.loss_options()
    for name in options:
        if name not in taken:
            raise RecipeError(
                f"options.{name} has no effect on the loss {loss} (options that it takes: "
                f"{', '.join(taken) or 'none'})"
            )
    return partial(PREFERENCES[loss], beta=beta, **taken)


def needs_prefix(loss: str, nll_weight: float) -> bool:
    """Whether what chosen and rejected share matters to a loss."""
    return loss in NEED_WHOLE or nll_weight > 0


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


class PairCollator:
    """Pairs as packed rows of so many tokens at the most; see `tree.pairs.plant`.

    Args:
        policy: trees are planted where it shares what sequences begin with.
    """

    def __init__(self, *, keep_prefix: bool, row_tokens: int, policy: PackedModel) -> None:
        self.keep_prefix = keep_prefix
        self.row_tokens = row_tokens
        apart = partial(plant_apart, to_the_end=policy.by_length)
        self.plant = plant if policy.shares else apart

    def __call__(self, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
        return [self._row(some) for some in split_to_rows(pairs, self.row_tokens)]

    def _row(self, pairs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        names = ["chosen_ref_logprob", "rejected_ref_logprob"]
        names += ["prefix_ref_logprob"] if self.keep_prefix else []
        row = {name: torch.tensor([pair[name] for pair in pairs]) for name in names}
        if "row" in pairs[0]:
            row["rows"] = torch.tensor([pair["row"] for pair in pairs])
        return self.plant(pairs, keep_prefix=self.keep_prefix) | row
