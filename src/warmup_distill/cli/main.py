"""How the program starts and ends.

Exit codes: 0 done, 2 the user's input is wrong, 130 or 143 stopped by a signal, 1 anything else.
"""

import errno
import logging
import os
import sys
import traceback

from warmup_distill.cli import experiments, screen
from warmup_distill.errors import NumbersError, WarmupDistillError
from warmup_distill.foreign.reading import is_full_disk, is_out_of_memory, reason
from warmup_distill.store.stopping import Stopped

NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""What a file system says of a name that it can hold nothing under."""


def main() -> None:
    """The console script."""
    screen.guard()
    _quiet_libraries()
    try:
        experiments.app()
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
        if getattr(error, "errno", None) in NO_SUCH_NAME:
            _leave(f"error: {reason(error)}. Give another name.", 2)
        _leave(_explained(error), 1)


def _explained(error: Exception) -> str:
    """What is no mistake in the input: one message where the system is at fault, not we."""
    if is_full_disk(error):
        return (
            f"the disk is full: {error}. Everything before is whole. Make room "
            "(`warmup-distill plan` says how much) and give the same command again."
        )
    if is_out_of_memory(error):
        return (
            f"there is not enough memory ({reason(error)}). Everything before is whole. "
            "`warmup-distill plan` says what a run needs, and which settings lower it."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"the system refuses: {error}. Everything before is whole."
    return traceback.format_exc()


def _leave(message: str, code: int) -> None:
    screen.say(message, sys.stderr)
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
