"""A chat template that came with a model, tried in a process of its own, which can be stopped.

Templates run in a sandbox that keeps them from Python, but not from nested loops, long strings or
large powers; and no signal interrupts what runs in C.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

from warmup_distill.models import rendering

SECONDS = 10
MEMORY = 2**30
"""Bytes, Python included; Linux alone holds to it."""
LONGEST = 100_000
"""Characters that a template may make of a short question."""
LONGEST_TEMPLATE = 2**20
"""Characters of the template itself."""


@functools.lru_cache
def objection(template: str, questions: str) -> str | None:
    """Why a template is not safe to use, or None. It is tried once, which takes 0.1 seconds.

    That it fails by itself is no objection: it may refuse a question.

    Args:
        template: Jinja, as `transformers` reads it.
        questions: JSON, a list of what it is rendered with, one after the other.
    """
    if len(template) > LONGEST_TEMPLATE:
        return f"it has {len(template):,} characters itself"
    request = {
        "path": sys.path,
        "template": template,
        "questions": json.loads(questions),
        "seconds": SECONDS,
        "memory": MEMORY,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(Path(rendering.__file__))],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=SECONDS,
            start_new_session=True,  # Ctrl-C is ours
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {SECONDS} seconds"
    return _judged(done.returncode, done.stdout)


def _judged(code: int, said: bytes) -> str | None:
    if code == rendering.TOO_LARGE:
        return "it takes too much memory"
    if code != 0:
        return f"Python ends with {code} while it runs"
    return f"it makes {int(said):,} characters of few" if int(said) > LONGEST else None
