"""Model folders, whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from warmup_distill.store.writing import whole_folder


def save_model(
    model: PreTrainedModel, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write an ordinary model folder: it appears whole or not at all.

    Args:
        model: is given the dtype in which it is saved.
    """
    whole: Any = model
    whole.to(dtype)
    with whole_folder(folder) as temporary:
        whole.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
