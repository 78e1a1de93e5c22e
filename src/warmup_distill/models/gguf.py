"""GGUF files, each converted once into a model folder."""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from warmup_distill.errors import ModelError
from warmup_distill.models.saving import save_model
from warmup_distill.models.weights import require_matching


def converted(gguf: Path) -> Path:
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
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                gguf_file=file_name,
                dtype=torch.float32,
                output_loading_info=True,
                # Without this the model counts as quantized, and can be neither trained nor saved.
                quantization_config=GgufConfig(dequantize=True),
            )
        except Exception as error:  # a reader of foreign bytes can raise anything
            raise ModelError(
                f"{gguf} cannot be read as a GGUF model: {first_line(error)}"
            ) from error
        model, report = loaded
        require_matching(str(gguf), report)
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


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
