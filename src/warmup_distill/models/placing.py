"""Where a model is: on one device, or spread over several by accelerate's hooks."""

from typing import Any

import torch
from transformers import PreTrainedModel


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens and gives its results.

    Of one that is spread the weights may be anywhere, on a disk too, when nothing runs.
    """
    embeddings: Any = model.get_input_embeddings()
    hook = getattr(embeddings, "_hf_hook", None)
    inner = [hook, *getattr(hook, "hooks", ())]
    found = [d for one in inner if (d := getattr(one, "execution_device", None)) is not None]
    return torch.device(found[0]) if found else model.device


def stays_where_it_is(model: Any) -> bool:
    """Whether a model may not be moved: it is spread over devices, or its bits belong to one."""
    places = getattr(model, "hf_device_map", None) or {}
    hooked = getattr(model, "_hf_hook", None) is not None
    return len(set(places.values())) > 1 or hooked or is_quantized(model)


def is_quantized(model: Any) -> bool:
    """Whether a library of fewer bits has its own layers in a model."""
    return bool(getattr(model, "is_quantized", False))


def placed(model: Any, device: torch.device) -> Any:
    """The model in evaluation mode on a device, or where it has to stay."""
    return (model if stays_where_it_is(model) else model.to(device)).eval()
