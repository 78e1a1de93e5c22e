"""Whether a model has room in the memory of this process's device."""

import psutil
import torch
from transformers import AutoModelForCausalLM

from warmup_distill.models.loading import DType, causal_config, device, dtype_named

SHARE = 0.5
"""Of the free memory that weights may take; the rest is for what is computed with them."""


def free_memory() -> int:
    """Bytes that are free on the device that models are loaded onto."""
    if device().type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def fits_here(name: str, dtype: DType) -> bool:
    """Whether a model's weights fit, by its configuration alone."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            causal_config(name), trust_remote_code=False
        )
    size: int = model.num_parameters() * dtype_named(dtype).itemsize
    return size <= SHARE * free_memory()
