"""A guard against whatever would wait for a device, where there is none to be waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Turns down every operation for which a device would have to be waited for.

    `lift_fresh` is a tensor of numbers of Python, which would have to be sent there.
    """

    NAMES = (
        "_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero",
        "lift_fresh",
    )  # fmt: skip

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        repeats = name == "repeat_interleave" and func._overloadname == "Tensor"
        by_mask = name.startswith("index") and _by_mask(args)
        if name.startswith(self.NAMES) or repeats or by_mask:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def _by_mask(args: Any) -> bool:
    """Whether a tensor is indexed by truth values, whose number is not known."""
    places = [one for arg in args if isinstance(arg, (list, tuple)) for one in arg]
    return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in places)


@contextmanager
def never_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing in this block may wait for a device."""

    def refuse(self: Tensor, *_: Any) -> Any:
        raise AssertionError("a tensor was read, which waits for the device")

    with monkeypatch.context() as patch, Waits():
        for name in ("tolist", "item", "numpy", "cpu", "__bool__", "__int__", "__float__"):
            patch.setattr(Tensor, name, refuse)
        yield
