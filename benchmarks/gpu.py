"""A GPU against its own limits: sampling, check, warm-up and distillation.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py --tiny --device cpu  # tiny shapes, to see that it runs

Weights are made at random in the shapes of Qwen2.5-1.5B and 7B, so nothing is downloaded. Two
limits are measured where this runs: bytes per second of a copy, and operations per second of a
matrix product in the dtype of the models. Operations are 2 per weight and token forward and 6 with
gradients; attention is left out, so every share of the limit is a little too low. Of trainings
there is the share of the data sheet's operations too, which is what people call model-FLOP
utilisation, where `plan` knows the device. A step of sampling reads all weights, and for each row
the keys and values of its whole context, the prompt too, which are in fact read once for all rows
of a prompt. It is timed against `generate`, and against itself with no step recorded.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import Measured, finish, training_arguments
from datasets import Dataset
from gpu_limits import (
    LARGE,
    QWEN,
    SMALL,
    TINY,
    Setting,
    bandwidth_limit,
    fitting,
    limits,
    line,
    measured,
    name_of,
    wait,
    weights,
)
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from warmup_distill.engines import pace
from warmup_distill.engines.randomness import stream
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.records import Sample
from warmup_distill.training.distill import DistillTrainer
from warmup_distill.training.warmup import WarmupTrainer

WARMUP, DISTILLATION = f"warm-up step, {SMALL}", f"distillation step, {SMALL} from {LARGE}"


def draw(setting: Setting, engine: TransformersEngine, new_tokens: int) -> list[list[Sample]]:
    prompts = [setting.text(f"prompt {i}", setting.prompt_tokens) for i in range(setting.prompts)]
    streams = [[stream(i, n) for n in range(setting.samples)] for i in range(setting.prompts)]
    return engine.sample(prompts, streams, max_new_tokens=new_tokens, temperature=1.0)


def check(setting: Setting, engine: TransformersEngine, samples: list[list[Sample]]) -> object:
    """Every token, and nothing is continued."""
    return engine.check_and_continue(
        [setting.text(f"prompt {i}", setting.prompt_tokens) for i in range(setting.prompts)],
        samples,
        [[0] * setting.samples] * setting.prompts,
        margin_threshold=float("inf"),
        max_new_tokens=setting.new_tokens,
        temperature=1.0,
        stop_at_mismatch=False,
    )


@torch.inference_mode()
def generate(setting: Setting, model: PreTrainedModel, new_tokens: int) -> object:
    prompts = [setting.text(f"prompt {i}", setting.prompt_tokens) for i in range(setting.prompts)]
    ids = torch.tensor(prompts, device=setting.device).repeat_interleave(setting.samples, 0)
    return model.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
        max_new_tokens=new_tokens, pad_token_id=0,
    )  # fmt: skip


def drawing(setting: Setting, name: str, limit: dict[str, float]) -> list[dict[str, Any]]:
    """Sampling and the check of every token, by one model."""
    model, device = setting.model(name, setting.dtype), setting.device
    engine = TransformersEngine(model, model, setting.vocabulary, batch_tokens=2**30)
    check(setting, engine, draw(setting, engine, 4))  # kernels are loaded
    generate(setting, model, 4)
    samples, sampling = measured(lambda: draw(setting, engine, setting.new_tokens), device)
    with patch.object(pace, "recorder_of", lambda model: None):
        _, plain = measured(lambda: draw(setting, engine, setting.new_tokens), device)
    _, checking = measured(lambda: check(setting, engine, samples), device)
    engine.forget()
    _, theirs = measured(lambda: generate(setting, model, setting.new_tokens), device)
    drawn = setting.prompts * setting.samples * setting.new_tokens
    body, head = weights(model)
    fed = drawn + setting.prompts * (setting.prompt_tokens - setting.samples)
    done = 2.0 * (body * fed + head * drawn)
    most = bandwidth_limit(setting, model, limit["bytes"])
    return [
        line(
            f"sampling, {name}", sampling, tokens_per_second=drawn / sampling.seconds,
            of_bandwidth_limit=drawn / sampling.seconds / most, bandwidth_limit=most,
            times_generate=theirs.seconds / sampling.seconds,
            times_not_recorded=plain.seconds / sampling.seconds,
            generate_peak_mib=theirs.peak_mib,
        ),
        line(
            f"check, {name}", checking, tokens_per_second=drawn / checking.seconds,
            of_matrix_product=done / checking.seconds / limit["operations"],
        ),
    ]  # fmt: skip


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wait(self.device)
        self.times.append(time.perf_counter())


def train(setting: Setting, trainer: Any, count: Callable[[int], float]) -> dict[str, float]:
    """Seconds and operations of a step; `count` makes operations of the tokens of a step."""
    clock, fed = Clock(setting.device), [0]

    def hear(_: Any, given: Any, named: dict[str, Any]) -> None:
        fed[0] += named["input_ids"].numel()

    trainer.model.get_decoder().register_forward_pre_hook(hear, with_kwargs=True)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    fed[0] = 0
    _, cost = measured(trainer.train, setting.device)
    seconds = (clock.times[-1] - clock.times[0]) / (setting.steps - 1)
    tokens = fed[0] / setting.steps
    found = {"seconds": seconds, "tokens_per_second": tokens / seconds}
    return found | {"operations": count(int(tokens)), "peak_mib": cost.peak_mib or 0.0}


def arguments_of(setting: Setting, batch: int, folder: str) -> TrainingArguments:
    gpu = setting.device.type == "cuda"
    settings = training_arguments(setting.steps, batch, folder)
    return TrainingArguments(**settings | {"use_cpu": not gpu, "bf16": gpu})


def warmup(setting: Setting, limit: dict[str, float]) -> dict[str, Any]:
    """Pairs of a prompt share it, and a fourth of their completions."""
    prefix = setting.new_tokens // 4
    rest, pairs = setting.new_tokens - prefix, setting.samples // 2
    rows = [
        {
            "prompt_ids": setting.text(f"prompt {i}", setting.prompt_tokens),
            "chosen_ids": [*shared, 0, *setting.text(f"chosen {i} {n}", rest - 1)],
            "rejected_ids": [*shared, 1, *setting.text(f"rejected {i} {n}", rest - 1)],
            "mismatch_index": prefix, "chosen_ref_logprob": 0.0, "rejected_ref_logprob": 0.0,
        }
        for i in range(setting.prompts * setting.steps // 4)
        for n in range(pairs)
        for shared in [setting.text(f"shared {i} {n}", prefix)]
    ]  # fmt: skip
    policy, batch = setting.model(SMALL, torch.float32), len(rows) // setting.steps
    body, head = weights(policy)
    with tempfile.TemporaryDirectory() as folder:
        trainer = WarmupTrainer(
            model=policy, vocabulary=setting.vocabulary, starts_as_reference=False,
            args=arguments_of(setting, batch, folder), train_dataset=Dataset.from_list(rows),
        )  # fmt: skip
        scored = 2 * rest * batch
        found = train(setting, trainer, lambda tokens: 6.0 * (body * tokens + head * scored))
    return utilisation(WARMUP, found, limit)


def distillation(setting: Setting, limit: dict[str, float]) -> dict[str, Any]:
    batch = setting.prompts // 2
    rows = [
        {
            "prompt_ids": setting.text(f"prompt {i}", setting.prompt_tokens),
            "completion_ids": setting.text(f"completion {i}", setting.new_tokens),
        }
        for i in range(batch * setting.steps)
    ]
    student, teacher = setting.model(SMALL, torch.float32), setting.model(LARGE, setting.dtype)
    (body, head), (large, large_head) = weights(student), weights(teacher)
    scored = batch * setting.new_tokens

    def count(tokens: int) -> float:
        return 6.0 * (body * tokens + head * scored) + 2.0 * (large * tokens + large_head * scored)

    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillTrainer(
            model=student, teacher=teacher, vocabulary=setting.vocabulary,
            args=arguments_of(setting, batch, folder), train_dataset=Dataset.from_list(rows),
        )  # fmt: skip
        found = train(setting, trainer, count)
    return utilisation(DISTILLATION, found, limit)


def utilisation(name: str, found: dict[str, float], limit: dict[str, float]) -> dict[str, Any]:
    cost = Measured(seconds=found["seconds"], peak_mib=found["peak_mib"] or None)
    rate, sheet = found["operations"] / found["seconds"], limit.get("operations_by_data_sheet")
    return line(
        name, cost, tokens_per_second=found["tokens_per_second"],
        of_matrix_product=rate / limit["operations"],
        model_flop_utilisation=rate / sheet if sheet else None,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("expected a CUDA device, found none. To see that it runs: --tiny --device cpu")
        sys.exit(2)
    device = torch.device(options.device)
    setting = Setting(device=device, shapes=QWEN)
    if options.tiny:
        setting = Setting(
            device=device, shapes=TINY, prompts=4, samples=4, prompt_tokens=16, new_tokens=8,
            steps=3, product=256, copied=2**20,
        )  # fmt: skip
    limit = limits(setting)
    card = name_of(device)
    print(f"{card}: {limit['operations'] / 1e12:.4g} TFLOP/s, {limit['bytes'] / 1e12:.4g} TB/s")
    records: list[dict[str, Any]] = [{"name": "limits", "card": card} | limit]
    for name in setting.shapes:
        records += fitting(f"sampling, {name}", partial(drawing, setting, name, limit))
    records += fitting(WARMUP, lambda: [warmup(setting, limit)])
    records += fitting(DISTILLATION, lambda: [distillation(setting, limit)])
    finish(records, options.json)


if __name__ == "__main__":
    main()
