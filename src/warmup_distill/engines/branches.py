"""Completions of some prompts that grow under one model, by the tree or by the plain path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from warmup_distill.engines.decode import decode
from warmup_distill.engines.plain import PlainBranches
from warmup_distill.engines.rows import Row
from warmup_distill.engines.score import score
from warmup_distill.tree.grow import TokenTree
from warmup_distill.tree.model import TreeModel
from warmup_distill.tree.packed import PackedModel
from warmup_distill.tree.plain import PlainModel


class Branches(Protocol):
    """Branches by their numbers, each the continuation of a prompt."""

    capacity: int
    """Tokens that a branch can hold."""

    def score(
        self,
        endings: Mapping[int, Sequence[int]],
        stop: Callable[[int, list[float]], bool] = ...,
        advance: Callable[[int], object] = ...,
    ) -> dict[int, list[float]]:
        """The log-probability of each token of `endings`, which continue the branches as they are.

        The branches grow by the tokens scored, but for the last one of each. Once `stop` is True
        of a branch and its log-probabilities so far, the rest of it may be left out. `advance` is
        called with the number of tokens just scored.
        """

    def cut(self, lengths: dict[int, int]) -> None:
        """Cut branches back to some of their tokens."""

    def draw(
        self,
        rows: dict[int, Row],
        temperature: float,
        advance: Callable[[int], object] = ...,
    ) -> None:
        """Complete rows in place, each on the branch of its number.

        `advance` is called with the number of tokens just drawn.
        """


class TreeBranches:
    """See `Branches`: a `TokenTree`, in which nothing is run twice."""

    def __init__(
        self,
        model: TreeModel,
        prompts: Sequence[Sequence[int]],
        owners: Sequence[int],
        capacity: int,
    ) -> None:
        self.tree = TokenTree(model, prompts, owners, capacity)
        self.capacity = self.tree.capacity

    def score(
        self,
        endings: Mapping[int, Sequence[int]],
        stop: Callable[[int, list[float]], bool] = lambda branch, logprobs: False,
        advance: Callable[[int], object] = lambda tokens: None,
    ) -> dict[int, list[float]]:
        """See `Branches.score`."""
        return score(self.tree, endings, stop, advance)

    def cut(self, lengths: dict[int, int]) -> None:
        """See `Branches.cut`."""
        self.tree.cut(lengths)

    def draw(
        self,
        rows: dict[int, Row],
        temperature: float,
        advance: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        """See `Branches.draw`."""
        decode(self.tree, rows, temperature, advance)


def grow_branches(
    model: PackedModel, prompts: Sequence[Sequence[int]], owners: Sequence[int], capacity: int
) -> Branches:
    """Branches of some prompts, one for each of `owners`, by the path that the model takes."""
    if isinstance(model, TreeModel):
        return TreeBranches(model, prompts, owners, capacity)
    assert isinstance(model, PlainModel)
    return PlainBranches(model, prompts, owners, capacity)
