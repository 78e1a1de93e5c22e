"""GGUF files, each converted once into a model folder."""

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from warmup_distill.errors import ModelError, RunError
from warmup_distill.foreign.reading import reading
from warmup_distill.models.examining import require_sane_numbers
from warmup_distill.models.weights import require_matching
from warmup_distill.store.artifacts import read_json, write_json
from warmup_distill.store.checking import faults, recorded
from warmup_distill.store.fingerprints import digest
from warmup_distill.store.hashing import cache_folder, sha256
from warmup_distill.store.locking import in_turn
from warmup_distill.store.removing import sweep
from warmup_distill.store.writing import whole_folder

CONVERSION = 1
"""Of the way in which files are converted; another one makes another folder."""

SEAL = "seal.json"
"""In a converted folder: size and hash of its files."""


def converted(gguf: Path) -> Path:
    """A model folder with the dequantized float32 weights of a GGUF file, made once.

    It is found by the content of the file, and by what converts it. Processes that need it at the
    same time wait for the one that makes it.

    Raises:
        ModelError: the file is no GGUF model, or the folder is not as it was made.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"{gguf} needs the extra `gguf`: pip install 'warmup-distill[gguf]', then run again."
        )
    folder = cache_folder() / f"{gguf.stem[:50]}-{_key(gguf)}"
    if not folder.exists():
        with in_turn(folder.parent, "converting a GGUF file"):
            sweep(folder.parent)  # whoever was at work here before is not any more
            if not folder.exists():
                _convert(gguf, folder)
    _require_whole(folder, gguf)
    return folder


def _key(gguf: Path) -> str:
    try:
        known = sha256(gguf)
    except OSError as error:
        raise ModelError(f"{gguf} cannot be read: {error.strerror}.") from error
    return digest([known, CONVERSION, version("transformers"), version("gguf")])


def _convert(gguf: Path, folder: Path) -> None:
    source, file_name = str(gguf.parent), gguf.name
    with reading(ModelError, f"{gguf} cannot be read as a GGUF model"):
        require_sane_numbers(_metadata(gguf), file_name)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file_name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            gguf_file=file_name,
            dtype=torch.float32,
            output_loading_info=True,
            # Without this the model counts as quantized, and can be neither trained nor saved.
            quantization_config=GgufConfig(dequantize=True),
        )
        model, report = loaded
        require_matching(str(gguf), report)
        _repair_pre_tokenizer(tokenizer, gguf)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.config._name_or_path = gguf.stem
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        names = sorted(path.name for path in temporary.iterdir() if path.is_file())
        write_json(temporary / SEAL, recorded(temporary, names))


def _metadata(gguf: Path) -> dict[str, Any]:
    """The model's configuration as it stands in the file."""
    found = load_gguf_checkpoint(str(gguf))  # type: ignore[no-untyped-call]
    return dict(found["config"])


def _require_whole(folder: Path, gguf: Path) -> None:
    try:
        found = faults(folder, read_json(folder / SEAL))
    except (RunError, AttributeError, TypeError, KeyError):
        found = [f"{folder / SEAL} says nothing"]
    if found:
        raise ModelError(
            f"{found[0]}. {folder} was made of {gguf}: remove that folder, and it is made again."
        )


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
