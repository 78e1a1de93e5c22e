"""Loading models and tokenizers by name: hub, folder, GGUF file, or the bundled pair.

Weights are read from safetensors or GGUF, never from a pickle; code that comes with a model is
never run.
"""

import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from warmup_distill.errors import ModelError
from warmup_distill.foreign.reading import reading, stays_inside, what_is_at
from warmup_distill.foreign.showing import brief
from warmup_distill.models.chat import try_template
from warmup_distill.models.examining import examine
from warmup_distill.models.gguf import converted
from warmup_distill.models.placing import placed
from warmup_distill.models.quantizing import quantization_of, require_reader
from warmup_distill.models.renderer import PROBE
from warmup_distill.models.weights import require_floats, require_matching
from warmup_distill.store.fingerprints import content

DType = Literal["float32", "bfloat16"]
DeviceMap = Literal["auto"]

CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length",
            "seq_length", "n_ctx")  # fmt: skip
UNBOUNDED = 2**31 - 1
"""The context of a model that has no limit of its own."""

BUNDLED = Path(__file__).parents[1] / "bundled"


def locate(name: str) -> str:
    """The folder or hub name behind a model's name in the recipe.

    A GGUF file is converted once into a folder in the user's cache, keyed by its content.

    Raises:
        ModelError: there is no such folder, file, package or bundled model.
    """
    if name.startswith("bundled:"):
        return str(_bundled(name))
    if name.startswith("package:"):
        return str(converted(_package_file(name)))
    with reading(ModelError, f"{name}: expected the name of a model"):
        path = Path(name).expanduser()
        found = what_is_at(path)
    if path.suffix == ".gguf":
        return str(converted(_existing(path, name)))
    if found == "a folder":
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or found != "none":
        _existing(path / "config.json", name)
    return name


def load_config(name: str) -> PretrainedConfig:
    """The configuration of a model; weights are not touched.

    Which code computes attention and experts is not the model's to say: a configuration can name
    code on the hub there.
    """
    config: PretrainedConfig = _load(AutoConfig, name)
    config._attn_implementation = config._experts_implementation = None
    return config


def causal_config(name: str) -> PretrainedConfig:
    """The configuration of a causal language model.

    Raises:
        ModelError: it cannot be found, or belongs to a model of another kind.
    """
    config = load_config(name)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"{name} is a {config.model_type} model, which is no causal language model to "
            "transformers: expected a model of text that continues it from left to right. Of a "
            "model that also sees or hears, take the language model that it was made from."
        )
    return config


def context_of(config: PretrainedConfig) -> int:
    """Tokens that a model reads, or `UNBOUNDED` where its configuration names no limit."""
    text = config.get_text_config(decoder=True)
    found = (getattr(text, name, None) for name in CONTEXTS)
    return next((int(value) for value in found if isinstance(value, int) and value > 0), UNBOUNDED)


def load_generation_config(name: str) -> GenerationConfig | None:
    """The generation configuration that comes with a model, if one does."""
    where = locate(name)
    with reading(ModelError, f"{name}: its generation configuration cannot be read"):
        try:
            config = GenerationConfig.from_pretrained(where)
        except OSError:
            return None
    ends = config.eos_token_id
    if not all(isinstance(end, int) for end in (ends if isinstance(ends, list) else [ends or 0])):
        raise ModelError(
            f"{name}: expected an id or a list of ids as eos_token_id in the generation "
            f"configuration, got {brief(ends)}."
        )
    return config


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, padding on the left.

    Raises:
        ModelError: it cannot be found, fails on a text, or its chat template is not safe to use.
    """
    tokenizer = _load(AutoTokenizer, name, padding_side="left")
    with reading(ModelError, f"the tokenizer of {name} fails on a short text"):
        tokenizer.decode(tokenizer(PROBE)["input_ids"])
    try_template(tokenizer)
    return tokenizer


def load_model(
    name: str, dtype: DType = "float32", device_map: DeviceMap | None = None
) -> PreTrainedModel:
    """A causal language model in evaluation mode on the best device of this machine.

    Args:
        dtype: of its weights; of a quantized one, of what is not quantized.
        device_map: `auto` spreads it over all devices.

    Raises:
        ModelError: it cannot be found, has no weights in safetensors, or is quantized by a library
            that is not installed.
    """
    where: Any = device_map
    if where is None and quantization_of(load_config(name)):  # it may not be moved later
        where = {"": device()}
    given = {} if where is None else {"device_map": where}
    model = load_weights(AutoModelForCausalLM, name, dtype=dtype_named(dtype), **given)
    loaded: PreTrainedModel = placed(model, device())
    return loaded


def dtype_named(name: str) -> torch.dtype:
    """torch's own dtype of that name."""
    found: torch.dtype = getattr(torch, name)
    return found


def load_weights(kind: Any, name: str, **arguments: Any) -> Any:
    """A model of some kind with weights that are its own, all of them.

    Raises:
        ModelError: it cannot be loaded, tensors are missing, left over or of another shape, or no
            library is here that reads its quantized weights.
    """
    config = causal_config(name) if kind is AutoModelForCausalLM else load_config(name)
    require_reader(name, config)
    model, report = _load(
        kind, name, config=config, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True, **arguments,
    )  # fmt: skip
    require_matching(name, report)
    folder = Path(locate(name))
    if folder.is_dir() and not getattr(config, "quantization_config", None):
        with reading(ModelError, f"{name}: the weights in {folder} cannot be read"):
            require_floats(name, folder)
    return model


def blank_model(name: str) -> Any:
    """A model whose tensors hold nothing; its folder's weights were found to fit by their headers.

    Raises:
        ModelError: there are no safetensors weights, or they do not fit.
    """
    require_weights(name)
    return load_weights(AutoModelForCausalLM, name, device_map="meta")


def identity(name: str) -> str:
    """What tells a model from others: a digest of its files, or the name of one on the hub."""
    if name.startswith("bundled:"):
        where = _bundled(name)
    elif name.startswith("package:"):
        where = _package_file(name)
    else:
        where = Path(name)
    return content(where) or name


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


def _load(kind: Any, name: str, **arguments: Any) -> Any:
    where = locate(name)
    with reading(
        ModelError,
        f"{name} cannot be loaded: expected the name of a model on the hub, a folder with "
        "config.json, tokenizer and safetensors weights, or a .gguf file. The loader says",
    ):
        examine(where)
        return kind.from_pretrained(where, trust_remote_code=False, **arguments)


def _bundled(name: str) -> Path:
    models = sorted(f"bundled:{path.parent.name}" for path in BUNDLED.glob("*/config.json"))
    if name not in models:
        raise ModelError(f"{name}: expected {' or '.join(models)}; no other model is bundled.")
    return BUNDLED / name.removeprefix("bundled:")


def _existing(path: Path, name: str) -> Path:
    with reading(ModelError, f"{name}: expected a model at {path}"):
        found = what_is_at(path)
    if found != "a file":
        there = "nothing is there" if found == "none" else f"there is {found}"
        raise ModelError(f"{name}: expected a model at {path}, but {there}.")
    return path


def _package_file(name: str) -> Path:
    """`package:NAME/FILE` is a file inside an installed Python package; it is not imported."""
    package, _, file = name.removeprefix("package:").partition("/")
    if not stays_inside(file):
        raise ModelError(f"{name}: expected package:NAME/FILE.gguf with a file of that package.")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        raise ModelError(
            f"{name}: the Python package {package} is not installed. "
            f"Install it with: pip install {package.replace('_', '-')}"
        )
    return _existing(Path(spec.origin).parent / file, name)
