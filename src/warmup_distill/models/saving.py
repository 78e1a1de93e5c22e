"""Model folders, whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.store.writing import whole_folder


def save_model(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    vocabulary: Vocabulary | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write an ordinary model folder: it appears whole or not at all.

    Args:
        model: is given the dtype in which it is saved.
        vocabulary: what counted as an end while the model was made, so that a plain `generate`
            ends there too; if None, the model says what it said before.
    """
    whole: Any = model
    whole.to(dtype)
    if vocabulary is not None:
        pad_id = tokenizer.pad_token_id
        known = pad_id is not None and pad_id < model.config.get_text_config().vocab_size
        generation: Any = model.generation_config
        ends = sorted(vocabulary.eos_ids)
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]
        generation.pad_token_id = pad_id if known else vocabulary.pad_id
    with whole_folder(folder) as temporary:
        whole.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
