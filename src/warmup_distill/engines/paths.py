"""Which way a model is run, found out by trying: the token tree, or whole sequences apart.

Two sequences packed into one row are held against the same two alone: under the model itself, and
under a miniature of it whose windows and original context are shorter than they are. A model that
gives other numbers takes the plain path, and what that may do is found out in the same way.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from warmup_distill.engines.branches import grow_branches
from warmup_distill.engines.rows import Row
from warmup_distill.errors import ModelError, NumbersError
from warmup_distill.models.miniature import miniature
from warmup_distill.models.placing import input_device, is_quantized
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.packed import PackedModel, gather_logprobs, require_finite
from warmup_distill.tree.plain import Habits, PlainModel

logger = logging.getLogger(__name__)

CLOSE = 1e-4
"""Nats by which log-probabilities in float32 may differ."""
ROUGHLY = 0.1
"""The same on average where weights have fewer bits: much less than a wrong token would do."""
SHORT, LONG = 7, 10
"""Tokens of the two sequences: longer than a miniature's window, and to both sides of its original
context; alike enough to be padded to one length."""

Found = tuple[Tensor, Tensor]
"""Log-probabilities by the way that is tried, and as they should be."""


EASY = Habits()


@dataclass(frozen=True, kw_only=True)
class Path:
    """How a model is run."""

    why: str | None
    """What the token tree does not reproduce; None where it serves."""
    habits: Habits = EASY

    def __str__(self) -> str:
        return "token tree" if self.why is None else f"plain: {self.why}"


_known: WeakKeyDictionary[PreTrainedModel, Path] = WeakKeyDictionary()
_ahead: dict[str, Path | None] = {}


def packed_model(model: PreTrainedModel, vocabulary: Vocabulary) -> PackedModel:
    """A model on the fastest path that gives its numbers.

    Raises:
        ModelError: it is no causal language model: a token's numbers hang on those after it.
    """
    path = path_of(model)
    if path.why is None:
        return TreeModel(model, vocabulary)
    return PlainModel(model, vocabulary, path.habits)


def path_of(model: PreTrainedModel) -> Path:
    """How a model is run; found out once."""
    if model not in _known:
        was_training = model.training
        model.eval()  # type: ignore[no-untyped-call]
        try:
            ahead = path_ahead(model.config)
            _known[model] = path = _find(model, ahead or Path(why=None))
        finally:
            model.train(was_training)
        if path.why is not None:
            logger.info("%s takes the plain path: %s", _name(model), path.why)
    return _known[model]


def path_ahead(config: PretrainedConfig) -> Path | None:
    """What a miniature says of a model before its weights are loaded; None if it says nothing.

    Raises:
        ModelError: it is no causal language model.
    """
    known = config.to_dict() | {"_name_or_path": None}  # copies of a model are one
    make = json.dumps(known, sort_keys=True, default=str)
    if make not in _ahead:
        _ahead[make] = _of_miniature(config)
    return _ahead[make]


def _of_miniature(config: PretrainedConfig) -> Path | None:
    try:
        small = miniature(config)
    except Exception as error:  # a family's code can raise anything of a changed configuration
        logger.debug("no miniature of %s: %s", config.model_type, error)
        return None
    try:
        if small is None or _Alone(small, _whole_vocabulary(small)).fault_of_running():
            return None
        return _find(small, Path(why=None))
    except NumbersError:  # its random weights overflow, which says nothing of the real ones
        return None


@torch.no_grad()
def _find(model: PreTrainedModel, ahead: Path) -> Path:
    vocabulary = _whole_vocabulary(model)
    alone = _Alone(model, vocabulary)
    why = ahead.why or alone.fault(lambda: alone.compared(TreeModel(model, vocabulary)))
    why = why or alone.fault(lambda: _growing(alone, TreeModel(model, vocabulary)))
    if why is None:
        return Path(why=None)
    if (broken := alone.fault_of_running()) is not None:
        raise ModelError(
            f"{_name(model)} does not run by itself: {broken}. Look at its config.json."
        )
    if (left := alone.fault(alone.prefix)) is not None:
        raise ModelError(
            f"{_name(model)} is no causal language model: what follows a token changes what is "
            f"said of it ({left}). Take a model that reads from left to right."
        )
    habits = ahead.habits
    for name, tried in (("splits", _splitting), ("pads", _padding), ("caches", _caching)):
        if getattr(habits, name) and alone.fault(partial(tried, alone, habits)) is not None:
            habits = replace(habits, **{name: False})
    return Path(why=why, habits=habits)


def _splitting(alone: "_Alone", habits: Habits) -> Found:
    """Are body and head the whole model?"""
    apart = PlainModel(alone.model, alone.vocabulary, Habits(splits=True, pads=False))
    return alone.compared(apart)


def _padding(alone: "_Alone", habits: Habits) -> Found:
    """Does padding after the last token change nothing?"""
    return alone.compared(PlainModel(alone.model, alone.vocabulary, habits))


def _caching(alone: "_Alone", habits: Habits) -> Found:
    """Do tokens that are drawn one by one have the numbers of a whole forward?"""
    return _growing(alone, PlainModel(alone.model, alone.vocabulary, replace(habits, pads=True)))


def _growing(alone: "_Alone", model: PackedModel) -> Found:
    """Log-probabilities of tokens as they are drawn one by one, and scored all at once."""
    prompts = [sequence[:SHORT] for sequence in alone.sequences]  # two side by side
    rows = {i: Row(stream=i, max_new_tokens=LONG - SHORT) for i in range(len(prompts))}
    with model.following():
        grown, whole = (grow_branches(model, prompts, list(rows), LONG) for _ in range(2))
        grown.draw(rows, 0.0)
        scored = whole.score({i: row.ids for i, row in rows.items()})
    drawn = [value for row in rows.values() for value in row.logprobs]
    return torch.tensor(drawn), torch.tensor([value for i in rows for value in scored[i]])


class _Alone:
    """Two sequences by the model's own forward, one at a time."""

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary) -> None:
        self.model, self.vocabulary = model, vocabulary
        first = min(4, vocabulary.size - 1)  # past the ids that families treat as special
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(first, vocabulary.size, (SHORT + LONG,), generator=draw)
        self.sequences = [part.tolist() for part in torch.split(ids, [SHORT, LONG])]
        pad = getattr(model.config.get_text_config(), "pad_token_id", None)
        if isinstance(pad, int) and pad < vocabulary.size:
            self.sequences[0][1] = pad  # some families count positions without it

    def compared(self, packed: PackedModel) -> Found:
        """Log-probabilities of the tokens after the first of each sequence: packed, and alone."""
        firsts, rest = ([s[:1] for s in self.sequences], [s[1:] for s in self.sequences])
        with packed.following():
            hidden, targets = packed.completion_hidden(firsts, rest)
            found = packed.logprobs(hidden, targets)
        return found, torch.cat([self._logprobs(sequence) for sequence in self.sequences])

    @torch.no_grad()
    def fault_of_running(self) -> str | None:
        """Why the model's own forward fails, or is another one the second time; None if neither."""
        once, again = (partial(self._logprobs, self.sequences[0]) for _ in range(2))
        return self.fault(lambda: (once(), again()))

    def prefix(self) -> Found:
        """Log-probabilities of a sequence's first tokens: without the rest of it, and with it."""
        whole = self.sequences[0]
        few = self._logprobs(whole[: SHORT // 2 + 1])
        return few, self._logprobs(whole)[: len(few)]

    def fault(self, compare: Callable[[], Found]) -> str | None:
        """What is wrong with one way of running the model, or None."""
        try:
            found, expected = compare()
        except NumbersError:  # the weights are broken, whichever way they are run
            raise
        except Exception as error:  # whatever a family's code raises is the answer
            return f"{type(error).__name__}: {(str(error) or 'no words').splitlines()[0]}"
        difference = (found - expected).abs()
        # What is quantized may round each row by what is beside it.
        exact = self.model.dtype == torch.float32 and not is_quantized(self.model)
        apart = float(difference.max() if exact else difference.mean())
        if apart <= (CLOSE if exact else ROUGHLY):
            return None
        return f"log-probabilities are off by {apart:.2g} nats"

    def _logprobs(self, sequence: list[int]) -> Tensor:
        ids = torch.tensor(sequence, device=input_device(self.model))
        self.model(input_ids=ids[None, :1])  # what depends on lengths starts anew
        logits = self.model(input_ids=ids[None]).logits[0, :-1, : self.vocabulary.size]
        return require_finite(gather_logprobs(logits.float(), ids[1:]))


def _whole_vocabulary(model: PreTrainedModel) -> Vocabulary:
    size = model.config.get_text_config().vocab_size
    return Vocabulary(size=size, eos_ids=frozenset(), pad_id=0)


def _name(model: PreTrainedModel) -> str:
    return str(model.config._name_or_path or type(model).__name__)
