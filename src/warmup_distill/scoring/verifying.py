"""Equality of mathematical answers by `math-verify`, which parses LaTeX and asks sympy.

It works in a process of its own (`verifier.py`), for some answers would keep it busy for ever, in
code that nothing but the end of the process interrupts.
"""

import atexit
import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import warmup_distill
from warmup_distill.errors import RunError
from warmup_distill.scoring.math_strings import last_boxed

SECONDS = 10
"""How long a comparison may take; then the answers count as different."""

_THOUSANDS = re.compile(r"(?<!\d)\d{1,3}(?:(?:\\[,;: ]|\{,\}|~)\d{3})+(?!\d)")
_log = logging.getLogger(__name__)


def verified(output: str, gold: str) -> bool:
    """Whether an output's answer equals a gold answer given alone, such as `\\frac{1}{2}`."""
    return _verifier.compare(f"${gold}$", f"${output}$")[0]


def verified_output(output: str, answer: str | None, solution: str | None) -> tuple[bool, str]:
    """Whether a whole output's answer equals the gold one, and what was read from the output.

    Args:
        output: prose; LaTeX in it stands in `$…$`, `\\(…\\)`, `\\[…\\]` or `\\boxed{…}`.
        answer: the gold answer alone, without dollars.
        solution: a worked solution, which is read instead where it boxes its answer.
    """
    if solution is not None and last_boxed(solution) is not None:
        return _verifier.compare(solution, output)
    alone = answer if answer is not None else solution or ""
    return _verifier.compare(f"${' '.join(alone.split())}$", output)


class _Verifier:
    """The process, started when it is first needed, and again after one that had to be stopped."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None

    def compare(self, gold: str, output: str) -> tuple[bool, str]:
        """Whether math-verify finds the same answer in both, and what it read from the output.

        Raises:
            RunError: the process does not start.
        """
        texts = {"gold": _joined(gold), "output": _joined(output)}
        with self.lock:
            try:
                answer = self._ask({**texts, "seconds": SECONDS})
            except BaseException:
                self.stop()  # an answer that comes later would be taken for that of the next one
                raise
            if answer is None:
                self.stop()
        if answer is None:
            _log.warning(
                "math-verify needs more than %s seconds or too much memory to compare with the "
                "answer %.80r; it counts as wrong.", SECONDS, gold,
            )  # fmt: skip
            return False, ""
        return answer["right"], answer["found"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The process's answer; None where it ended instead."""
        process = self._running()
        asked, answers = process.stdin, process.stdout
        assert asked and answers
        try:
            asked.write(json.dumps(request) + "\n")
            asked.flush()
        except BrokenPipeError:
            return None
        line = answers.readline()
        return json.loads(line) if line else None

    def _running(self) -> subprocess.Popen[str]:
        if self.process is not None:
            return self.process
        places = [str(Path(warmup_distill.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "warmup_distill.scoring.verifier"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
        )  # fmt: skip
        answers = self.process.stdout
        assert answers
        if answers.readline() != "ready\n":
            raise RunError(
                "math-verify cannot be started. `python -m warmup_distill.scoring.verifier` says "
                "why; or take another metric."
            )
        return self.process

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            with process:  # closes its pipes and waits
                pass


def _joined(text: str) -> str:
    """`10\\,000` as `10000`, which math-verify takes for two factors."""
    return _THOUSANDS.sub(lambda found: re.sub(r"\D", "", found[0]), text)


_verifier = _Verifier()
atexit.register(_verifier.stop)
