"""Decode steps recorded as CUDA graphs: Python's share of a step is then a single call.

What Python does in a step, some fifty calls a layer, takes longer than a GPU needs for their
arithmetic. A CUDA graph is those calls written down: the same kernels with the same arguments on
the same memory, which is what `Steps.step` does each time while its shapes stay (`pace.py`).

No step is recorded on a CPU, nor of a model with hooks, by which accelerate and FSDP move weights
about, nor of one whose bits a library of its own reads. Others cannot be recorded, where the host
chooses the experts or looks at a number: CUDA says so when it is tried, and the log says it once.
"""

import logging
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from warmup_distill.models.placing import input_device, stays_where_it_is

logger = logging.getLogger(__name__)

Step = Callable[[], None]
"""Reads and writes nothing but tensors that stay where they are."""
Replay = Callable[[], object]


class Recorder(Protocol):
    """Writes the steps of one model down."""

    def warm(self, step: Step) -> None:
        """Run a step where it will be recorded: kernels are loaded, what is made once is made."""

    def record(self, step: Step) -> Replay:
        """Run a step once more, and return what runs it again."""


class CudaGraphs:
    """See `Recorder`: on a stream of its own, as CUDA wants it; graphs share their memory."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, step: Step) -> None:
        """See `Recorder.warm`."""
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            step()
        outside.wait_stream(self._stream)

    def record(self, step: Step) -> Replay:
        """See `Recorder.record`; to record runs nothing yet."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may do what they like meanwhile.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with torch.cuda.stream(self._stream), recording:  # the first leaves the stream in any case
            step()
        graph.replay()
        return graph.replay


_recorders: WeakKeyDictionary[PreTrainedModel, Recorder | None] = WeakKeyDictionary()


def recorder_of(model: PreTrainedModel) -> Recorder | None:
    """What records the steps of a model; None where none are recorded."""
    device = input_device(model)
    if device.type != "cuda" or stays_where_it_is(model) or _has_hooks(model):
        return None
    if model not in _recorders:
        _recorders[model] = CudaGraphs(device)
    return _recorders[model]


def _has_hooks(model: nn.Module) -> bool:
    return any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())


def refuse(model: PreTrainedModel, error: Exception) -> None:
    """Record no more steps of a model, for one could not be."""
    _recorders[model] = None
    logger.info("decode steps of %s are not captured: %s", type(model).__name__, error)
