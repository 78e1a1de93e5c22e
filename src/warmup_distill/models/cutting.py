"""A student made of some layers of a model."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from warmup_distill.errors import ModelError


def cut_layers(model: PreTrainedModel, keep_layers: list[int]) -> PreTrainedModel:
    """Keep only these decoder layers of a model, in place; the usual start of a small student.

    Raises:
        ModelError: a layer does not exist, or the model does not keep them in one list.
    """
    decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"cannot cut {type(model).__name__}: expected its decoder to have a list `layers`. "
            "Take a model of the Llama, Qwen, Mistral, Gemma or Phi families."
        )
    require_layers(keep_layers, len(layers))
    decoder.layers = nn.ModuleList(layers[index] for index in keep_layers)
    for position, layer in enumerate(decoder.layers):
        layer.self_attn.layer_idx = position  # where the layer's keys and values are cached
    model.config.num_hidden_layers = len(keep_layers)
    layer_types = getattr(model.config, "layer_types", None)
    if layer_types is not None:
        model.config.layer_types = [layer_types[index] for index in keep_layers]
    return model


def require_layers(keep_layers: list[int], count: int) -> None:
    """Raise a ModelError if a layer to keep is not among the student's."""
    if keep_layers[-1] >= count:
        raise ModelError(
            f"cut.keep_layers names layer {keep_layers[-1]}, but the student has layers "
            f"0 to {count - 1}."
        )
