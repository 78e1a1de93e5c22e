"""What `gpu.py` runs and holds itself against: shapes of models, and the limits of a device."""

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from common import Measured, measure
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.planning.devices import DEVICES, is_called

Result = TypeVar("Result")

QWEN: dict[str, dict[str, Any]] = {
    "1.5B": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    name: shape | {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
    }
    for name, shape in QWEN.items()
}  # fmt: skip
SMALL, LARGE = QWEN
TOKENS = 151_665
"""Of Qwen2.5's tokenizer; the heads are padded beyond it."""


GOALS = {
    ("sampling", "times_generate"): 5.0,
    ("sampling", "of_bandwidth_limit"): 0.5,
    ("check", "of_matrix_product"): 0.6,
    ("warm-up step", "model_flop_utilisation"): 0.4,
    ("distillation step", "model_flop_utilisation"): 0.4,
}
"""What this program should reach on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How much there is to do, and where."""

    device: torch.device
    shapes: dict[str, dict[str, Any]]
    prompts: int = 32
    samples: int = 8
    prompt_tokens: int = 256
    new_tokens: int = 256
    steps: int = 6
    """Of a training; the first one is not counted."""
    product: int = 8192
    """Rows and columns of the matrix whose product sets the limit."""
    copied: int = 2**31
    """Bytes of the copy that sets the limit."""

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def vocabulary(self) -> Vocabulary:
        rows = min(shape["vocab_size"] for shape in self.shapes.values())
        return Vocabulary(size=min(rows, TOKENS), eos_ids=frozenset(), pad_id=0)

    def text(self, name: str, tokens: int) -> list[int]:
        return random.Random(name).choices(range(self.vocabulary.size), k=tokens)

    def model(self, name: str, dtype: torch.dtype) -> PreTrainedModel:
        torch.manual_seed(0)
        config = Qwen2Config(**self.shapes[name], eos_token_id=None, bos_token_id=None)
        with self.device:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
        return model.eval()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(work: Callable[[], Result], device: torch.device) -> tuple[Result, Measured]:
    """Run once; on a GPU the peak is of its memory, models included."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        wait(device)

    def to_the_end() -> Result:
        result = work()
        wait(device)
        return result

    result, cost = measure(to_the_end)
    if device.type == "cuda":
        cost = replace(cost, peak_mib=torch.cuda.max_memory_allocated(device) / 2**20)
    return result, cost


def rate(work: Callable[[], object], device: torch.device, amount: float) -> float:
    """The best of several runs that do so much each, per second."""
    work()
    return max(amount / measured(work, device)[1].seconds for _ in range(5))


def limits(setting: Setting) -> dict[str, float]:
    size, device = setting.product, setting.device
    a, b = (torch.randn(size, size, device=device).to(setting.dtype) for _ in range(2))
    operations = rate(lambda: a @ b, device, 2.0 * size**3)
    source = torch.ones(setting.copied, dtype=torch.uint8, device=device)
    copy = torch.empty_like(source)
    found = {
        "operations": operations,
        "bytes": rate(lambda: copy.copy_(source), device, 2.0 * setting.copied),
    }
    known = [one.flops for one in DEVICES.values() if is_called(one, name_of(device))]
    return found | ({"operations_by_data_sheet": known[0]} if known else {})


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def weights(model: PreTrainedModel) -> tuple[int, int]:
    """Of the body, and of the head."""
    everything = sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings().weight.numel()
    tied = model.config.tie_word_embeddings
    return everything - (1 if tied else 2) * head, head


def bandwidth_limit(setting: Setting, model: PreTrainedModel, bandwidth: float) -> float:
    """Tokens per second if a step took the time of reading what it reads."""
    config, size = model.config, setting.dtype.itemsize
    head_size = config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size
    rows = setting.prompts * setting.samples
    context = setting.prompt_tokens + setting.new_tokens / 2
    return rows * bandwidth / (size * (sum(weights(model)) + rows * context * kept))


def line(name: str, cost: Measured, **figures: float | None) -> dict[str, Any]:
    """One line for people, one record for the file."""
    record = {"name": name, "seconds": cost.seconds, "peak_mib": cost.peak_mib} | figures
    words = []
    for key, value in record.items():
        if isinstance(value, float):
            goal = GOALS.get((name.split(",")[0], key))
            words.append(f"{key} {value:.4g}" + ("" if goal is None else f" (goal {goal})"))
    print(f"{name}: " + ", ".join(words), flush=True)
    return record


def fitting(name: str, work: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What some work finds, or a line that says that its models do not fit on the device."""
    try:
        return work()
    except torch.OutOfMemoryError:
        print(f"{name}: does not fit into the memory of this device", flush=True)
        return [{"name": name, "fits": False}]
