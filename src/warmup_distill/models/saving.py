"""Model folders, whole or not at all."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from warmup_distill.store.artifacts import whole_folder


def save_model(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary model folder: it appears whole or not at all."""
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
