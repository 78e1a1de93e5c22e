"""Libraries below us without their bars and hints, for which we have our own."""

import logging
import os
import sys

from tqdm import tqdm

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables of the environment that libraries read when they are imported."""

SHOWN_BY_THEMSELVES = ("transformers", "datasets", "huggingface_hub")
"""Libraries whose loggers get a handler of their own when they are imported.

Whether they pass their messages on as well differs: all of them do where `CI` is set.
"""


def quiet_libraries() -> None:
    """Show warnings and errors of all libraries once, and nothing else; call before any import."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[AboveBars()])
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


class AboveBars(logging.Handler):
    """Writes lines to where bars are drawn without writing into one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether nobody else has shown it."""
        library = record.name.partition(".")[0]
        return library not in SHOWN_BY_THEMSELVES or not logging.getLogger(library).handlers

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def surroundings() -> dict[str, str]:
    """How quiet they are in this process, for processes on other machines."""
    return {name: os.environ[name] for name in QUIET if name in os.environ}
