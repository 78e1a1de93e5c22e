"""Two devices where there is one: tensors that say they are elsewhere, and must be moved.

What mixes a tensor of here with one of there fails, as it would with a GPU beside the CPU, or with
two GPUs. Only tensors that torch's own functions are called with are looked at, which is all that
a model and our own code do.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HERE, THERE = torch.device("cpu"), torch.device("cpu", 1)


class Elsewhere(Tensor):
    """A tensor of the other device."""


class TwoDevices(TorchFunctionMode):
    """In this block tensors of both devices are told apart."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return THERE if isinstance(args[0], Elsewhere) else HERE
        if func is Tensor.to and (where := _place([*args[1:], *kwargs.values()])) is not None:
            return _put(args[0], where)
        if func is Tensor.cpu:
            return _put(args[0], HERE)
        tensors = [one for one in _tensors([*args, *kwargs.values()]) if one.dim() > 0]
        kinds = {isinstance(one, Elsewhere) for one in tensors}
        if len(kinds) > 1 and not _is_copy(func):
            raise RuntimeError(f"{getattr(func, '__name__', func)}: tensors of two devices")
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and kwargs.get("device") is not None:
            return _put(made, torch.device(kwargs["device"]))
        return made


def elsewhere(module: nn.Module) -> Any:
    """A module with all its weights on the other device."""
    for part in module.modules():
        for name, weights in [*part._parameters.items()]:
            if weights is not None:
                moved = nn.Parameter(weights.detach().as_subclass(Elsewhere), requires_grad=False)
                part._parameters[name] = moved
        for name, values in [*part._buffers.items()]:
            if values is not None:
                part._buffers[name] = values.as_subclass(Elsewhere)
    return module


def _place(arguments: list[Any]) -> torch.device | None:
    devices = [one for one in arguments if isinstance(one, torch.device)]
    return devices[0] if devices else None


def _put(tensor: Tensor, where: torch.device) -> Tensor:
    return tensor.as_subclass(Elsewhere if where == THERE else Tensor)


def _is_copy(func: Any) -> bool:
    return func is Tensor.copy_


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
