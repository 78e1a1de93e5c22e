"""What a run ran on: versions, hardware, and the revision of the code."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("warmup-distill", "torch", "transformers", "tokenizers", "accelerate", "datasets")


def describe_environment() -> dict[str, Any]:
    """Facts for the manifest; nothing in it names a user, a host or a path."""
    memory = _main_memory()
    return {
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "hardware": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "memory_gib": round(memory / 2**30, 1) if memory else None,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads": torch.get_num_threads(),
        },
        "git_revision": _git_revision(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def device_name() -> str:
    """The processor, or the accelerator, that models run on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name()


def device_memory() -> tuple[str, int | None]:
    """The device that models run on, and its memory in bytes, where the system says."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    return "CPU", _main_memory()


def _main_memory() -> int | None:
    """Bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not on every system
        return None


def _git_revision() -> str | None:
    """The revision of the checkout that this package runs from, if it runs from one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
