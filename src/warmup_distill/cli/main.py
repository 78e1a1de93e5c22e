"""How the program starts and ends.

Exit codes: 0 done, 2 the user's input is wrong, 130 or 143 stopped by a signal, 1 anything else.
"""

import logging
import os
import sys

from warmup_distill.cli.commands import app
from warmup_distill.errors import NumbersError, WarmupDistillError
from warmup_distill.store.stopping import Stopped
from warmup_distill.store.writing import is_full_disk


def main() -> None:
    """The console script."""
    _quiet_libraries()
    try:
        app()
    except WarmupDistillError as error:
        _leave(f"error: {error}", 2)
    except NumbersError as error:
        _leave(f"stopped: {error}", 1)
    except Stopped as stopped:
        _leave(
            f"\nstopped by {stopped}; the same command goes on from the last part or step saved",
            128 + stopped.signal,
        )
    except Exception as error:
        if not is_full_disk(error):
            raise
        _leave(
            f"the disk is full: {error}. Everything before is whole. Make room "
            "(`warmup-distill plan` says how much) and give the same command again.",
            1,
        )


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(code) from None


def _quiet_libraries() -> None:
    """Our own progress and messages, without the bars and hints of the libraries below."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("warmup_distill").setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it shows its warnings itself
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
