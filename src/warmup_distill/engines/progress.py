"""How far work is: bars over tokens, whose total comes down as completions end, or over steps."""

from types import TracebackType
from typing import Self

from tqdm import tqdm

from warmup_distill.foreign.showing import clean


class Progress:
    """A progress bar over tokens that are drawn or checked; or over other things.

    Nobody knows beforehand how long completions will be. So the total is the most that they could
    be, and what they turn out to be shorter is taken off it: the bar ends at 100%.

    Args:
        name: what stands before the bar.
        total: tokens that the whole work takes at the most; without any there is no bar.
    """

    def __init__(self, name: str, total: int, unit: str = " tokens") -> None:
        self._open = total
        # Every advance may be shown: a fast batch must not make the bar skip a slow one's.
        self._bar = tqdm(
            total=total,
            desc=clean(name),
            unit=unit,
            unit_scale=True,
            miniters=1,
            disable=not total,
        )

    @property
    def seconds(self) -> float:
        """Since the bar began."""
        return float(self._bar.format_dict["elapsed"])

    def advance(self, tokens: int) -> None:
        """Some tokens were drawn or checked."""
        self._bar.update(tokens)

    def settle(self, tokens: int) -> None:
        """Work that takes so many tokens at the most is done, however many it took."""
        self._open -= tokens
        self._bar.total = self._bar.n + self._open
        self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._bar.close()


class StepProgress:
    """A progress bar over the optimizer steps of a training, with its last loss.

    Args:
        name: what stands before the bar; there is none until a step is heard of.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: tqdm | None = None
        self._loss: float | None = None

    def reached(self, step: int, steps: int, loss: float | None) -> None:
        """See `StepMeter`."""
        if self._bar is None:
            name = clean(self._name)
            self._bar = tqdm(total=steps, initial=step, desc=name, unit="step")
        if step != self._bar.n:  # less where a training went back to its last checkpoint
            self._bar.update(step - self._bar.n)
        if loss is not None and loss != self._loss:
            self._loss = loss
            self._bar.set_postfix(loss=f"{loss:.4f}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._bar is not None:
            self._bar.close()
