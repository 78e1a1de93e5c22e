"""Whether a model has room in the memory of this process's device."""

from warmup_distill.models.holding import Held
from warmup_distill.models.loading import DType, causal_config, dtype_named
from warmup_distill.models.memory import memory_of
from warmup_distill.models.sizes import sizes_of

SHARE = 0.5
"""Of the free memory that weights may take; the rest is for what is computed with them."""


def fits_here(name: str, dtype: DType) -> bool:
    """Whether a model's weights fit, by its configuration alone."""
    size = sizes_of(causal_config(name)).parameters * dtype_named(dtype).itemsize
    return size <= SHARE * memory_of(Held()).free
