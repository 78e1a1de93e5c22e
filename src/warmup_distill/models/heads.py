"""The output layer of a model, read without the rest of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.utils.hub import cached_file

from warmup_distill.models.holding import ModelRef
from warmup_distill.models.loading import causal_config, device, dtype_named, locate
from warmup_distill.models.quantizing import quantization_of


def load_head(ref: ModelRef) -> nn.Module:
    """The output layer of a model as it is in the model, on the best device of this machine.

    Of a model whose files name their tensors in another way, or whose weights are quantized, all
    of it is loaded, and the rest given back.

    Raises:
        ModelError: the model cannot be loaded.
    """
    ref.require_same()
    found = _alone(ref)
    return found if found is not None else _of_the_whole(ref)


def _alone(ref: ModelRef) -> nn.Module | None:
    config = causal_config(ref.name)
    if quantization_of(config):
        return None
    with torch.device("meta"):
        blank: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False, dtype=dtype_named(ref.dtype)
        )
    head: Any = blank.get_output_embeddings()
    stored = _stored(ref.name, _names(blank, head)) if head is not None else None
    if stored is None or any(True for _ in head.buffers()):
        return None
    head.to_empty(device=device())
    with torch.no_grad():
        for name, weights in head.named_parameters():
            if weights.shape != stored[name].shape:
                return None
            weights.copy_(stored[name])
    alone: nn.Module = head.eval().requires_grad_(False)
    return alone


def _of_the_whole(ref: ModelRef) -> nn.Module:
    whole: Any = ref.load()
    head: nn.Module = whole.get_output_embeddings()
    return head


def _names(model: Any, head: nn.Module) -> dict[str, list[str]]:
    """For each tensor of the head the names that it has in the model; tied ones have several."""
    ours = dict(head.named_parameters())
    every = [*model.named_parameters(remove_duplicate=False)]
    return {name: [other for other, one in every if one is ours[name]] for name in ours}


def _stored(name: str, names: dict[str, list[str]]) -> dict[str, Tensor] | None:
    """The head's tensors as a model's files have them; None unless each is there once."""
    wanted = {stored: ours for ours, several in names.items() for stored in several}
    found: dict[str, Tensor] = {}
    for path in _weight_files(locate(name)):
        with safe_open(path, framework="pt") as file:
            for stored in wanted.keys() & set(file.keys()):
                if wanted[stored] in found:
                    return None
                found[wanted[stored]] = file.get_tensor(stored)
    return found if found.keys() == names.keys() else None


def _weight_files(where: str) -> Iterable[Path]:
    if Path(where).is_dir():
        return sorted(Path(where).glob("*.safetensors"))
    folder = cached_file(where, "config.json")
    return sorted(Path(folder).parent.glob("*.safetensors")) if folder else []
