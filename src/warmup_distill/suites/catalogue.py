"""The suites: where their rows are, how a chat model is asked, and what scores the answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from warmup_distill.bundled.problems import draw
from warmup_distill.data.files import read_file
from warmup_distill.data.sources import read_dataset
from warmup_distill.errors import DataError
from warmup_distill.foreign.reading import reading
from warmup_distill.scoring.files import read_gold, read_text
from warmup_distill.scoring.metrics import Gold

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True, kw_only=True)
class SuiteRow:
    """One question of a suite."""

    row_id: str
    prompt: str
    """The bare request: the instruction, and after a blank line the input where there is one."""
    input: str | None
    gold: Gold

    @property
    def instruction(self) -> str:
        """The request without its input."""
        return self.prompt if self.input is None else self.prompt[: -(len(self.input) + 2)]


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A data set of the hub and which of its columns are ours."""

    name: str
    split: str
    prompt: str
    reference: str
    config: str | None = None
    input: str | None = None
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One benchmark."""

    metrics: tuple[str, ...]
    """The first one is the one to quote."""
    max_new_tokens: int
    """In the profile `clean`."""
    files: tuple[str, ...] = ()
    """Names of a local file with its rows, the first that is there."""
    hub: HubSet | None = None
    boxed: bool = False
    """Ask a chat model to box its final answer."""

    def ask(self, prompt: str) -> str:
        return prompt + BOXED if self.boxed else prompt


def _instructions(files: tuple[str, ...], hub_name: str | None) -> Suite:
    hub = hub_name and HubSet(
        name=hub_name, split="test", prompt="instruction", input="input", reference="output"
    )
    return Suite(
        metrics=("rouge_l", "exact_match"), max_new_tokens=256, files=files, hub=hub or None
    )


def _mathematics(file: str, hub: HubSet) -> Suite:
    metrics = ("boxed", "boxed_qwen", "math_verify", "math_string")
    return Suite(metrics=metrics, max_new_tokens=512, files=(file,), hub=hub, boxed=True)


SUITES: dict[str, Suite] = {
    "dolly": _instructions(("dolly_eval.jsonl",), "MiniLLM/dolly"),
    "self_inst": _instructions(("self_inst.jsonl",), "MiniLLM/self-inst"),
    "vicuna": _instructions(("vicuna.jsonl",), "MiniLLM/Vicuna"),
    "s_ni": _instructions(("s_ni.jsonl",), "MiniLLM/sinst"),
    "unni": _instructions(("unni_11plus.jsonl", "unni_11plus_sample.jsonl"), "MiniLLM/uinst"),
    "gsm8k": Suite(
        metrics=("boxed", "boxed_qwen", "gsm8k_flexible", "gsm8k_strict"),
        max_new_tokens=512, boxed=True,
        files=("gsm8k_test.jsonl",),
        hub=HubSet(name="openai/gsm8k", config="main", split="test", prompt="question",
                   reference="answer"),
    ),
    "math": _mathematics(
        "math_test.jsonl",
        HubSet(name="nlile/hendrycks-MATH-benchmark", split="test", prompt="problem",
               reference="solution", answer="answer"),
    ),
    "math500": _mathematics(
        "math500.jsonl",
        HubSet(name="HuggingFaceH4/MATH-500", split="test", prompt="problem",
               reference="solution", answer="answer"),
    ),
    "unni_short": _instructions(("unni_short.jsonl",), None),
    "problems": Suite(metrics=("gsm8k_strict",), max_new_tokens=96),
}  # fmt: skip
"""The seven of the paper, two smaller variants, and the problems that ship with the package."""

SEVEN = ("dolly", "self_inst", "vicuna", "s_ni", "unni", "gsm8k", "math")
"""The paper's."""

PROBLEMS = 2000
"""Rows of `problems`, the test problems that the bundled models' cards speak of."""


def read_suite(name: str, data: Path | None, limit: int | None) -> tuple[list[SuiteRow], str]:
    """The first rows of a suite, and where they came from.

    Args:
        name: a key of `SUITES`.
        data: a folder with files of the suites' names; the hub if None.
        limit: rows at the most.

    Raises:
        DataError: the rows cannot be read.
    """
    suite = SUITES[name]
    if not suite.files:
        return list(islice(_problems(), limit or PROBLEMS)), "bundled:problems"
    if data is None:
        if suite.hub is None:
            raise DataError(f"{name} is on no hub: give --data a folder with {suite.files[0]}.")
        rows, origin = _hub_rows(suite.hub), suite.hub.name
    else:
        path = _existing(data, suite.files)
        rows, origin = (_file_row(values, where) for values, where in read_file(path)), path.name
    found = list(islice(rows, limit))
    if not found:
        raise DataError(f"expected rows in {origin}, but there are none.")
    return found, origin


def _existing(data: Path, files: tuple[str, ...]) -> Path:
    for file in files:
        if (data / file).is_file():
            return data / file
    raise DataError(
        f"expected {' or '.join(files)} in {data}, but there is none. Give --data the folder that "
        "holds it, or leave it out to read the hub."
    )


def _problems() -> Iterator[SuiteRow]:
    for problem in draw("test", seed=0):
        gold = Gold(references=[problem.solution], answer=problem.answer)
        yield SuiteRow(row_id=problem.problem_id, prompt=problem.question, input=None, gold=gold)


def _file_row(values: Any, where: str) -> SuiteRow:
    """Rows of `id`, `prompt`, `reference`, and where they apply `input`, `references`, `answer`."""
    texts = {name: read_text(values, name, where) for name in ("id", "prompt", "reference")}
    missing = [name for name, text in texts.items() if text is None]
    if missing:
        raise DataError(
            f"{where}: expected columns id, prompt and reference, but there is no {missing[0]}."
        )
    prompt, extra = str(texts["prompt"]), read_text(values, "input", where) or None
    if extra is not None and not prompt.endswith(f"\n\n{extra}"):
        raise DataError(f"{where}: expected a prompt that ends with a blank line and its input.")
    gold = read_gold(values, where)
    return SuiteRow(row_id=str(texts["id"]), prompt=prompt, input=extra, gold=gold)


def _hub_rows(hub: HubSet) -> Iterator[SuiteRow]:
    for number, values in enumerate(read_dataset(hub.name, hub.config, hub.split)):
        with reading(DataError, f"{hub.name}, row {number}, is not as expected"):
            yield _hub_row(hub, number, values)


def _hub_row(hub: HubSet, number: int, values: Any) -> SuiteRow:
    reference = values[hub.reference]
    extra = values.get(hub.input) if hub.input else None
    return SuiteRow(
        row_id=str(number),
        prompt=values[hub.prompt] + (f"\n\n{extra}" if extra else ""),
        input=extra or None,
        gold=Gold(
            references=reference if isinstance(reference, list) else [reference],
            answer=values[hub.answer] if hub.answer else None,
        ),
    )
