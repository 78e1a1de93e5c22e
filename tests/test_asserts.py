"""Asserts hold what is already known: `python -O` leaves them out, and nothing else may change."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_run import small_recipe
from transformers import AutoTokenizer

import warmup_distill
from warmup_distill import pipeline
from warmup_distill.errors import ModelError
from warmup_distill.models.loading import BUNDLED
from warmup_distill.stages.session import Session

PACKAGE = Path(warmup_distill.__file__).parent
HARMLESS = {"len", "isinstance"}
"""Calls that load, read and change nothing."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in PACKAGE.rglob("*.py"):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def computed_names() -> dict[str, set[str]]:
    """Attributes of our classes that run code when they are read, by class."""
    found: dict[str, set[str]] = {}
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                functions = [one for one in node.body if isinstance(one, Function)]
                found[node.name] = {one.name for one in functions if one.decorator_list}
    return found


def faults(tree: ast.Module, computed: dict[str, set[str]]) -> Iterator[str]:
    """What in the asserts of a module could do something."""
    for holder in ast.walk(tree):
        if not isinstance(holder, ast.ClassDef | ast.Module):
            continue
        for function in [one for one in holder.body if isinstance(one, Function)]:
            kinds = {a.arg: ast.unparse(a.annotation) for a in function.args.args if a.annotation}
            if isinstance(holder, ast.ClassDef):
                kinds["self"] = holder.name
            for check in [n for n in ast.walk(function) if isinstance(n, ast.Assert)]:
                yield from doing(check.test, kinds, computed)


def doing(test: ast.expr, kinds: dict[str, str], computed: dict[str, set[str]]) -> Iterator[str]:
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and ast.unparse(node.func) not in HARMLESS:
            yield f"calls {ast.unparse(node)}"
        elif isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
            yield f"does {ast.unparse(node)}"
        elif isinstance(node, ast.Attribute):
            kind = kinds.get(ast.unparse(node.value))
            if kind not in computed or node.attr in computed[kind]:
                yield f"reads {ast.unparse(node)}, which is not known to be a plain field"


def test_asserts_of_the_package_only_compare_what_is_there() -> None:
    computed = computed_names()
    found = [f"{path.name} {fault}" for path, tree in trees() for fault in faults(tree, computed)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["session.vocabulary.size", "session.tokenizer", "load(x)", "(y := x)", "x.thing", "x.pop()"],
)
def test_the_rule_finds_what_loads_or_changes(line: str) -> None:
    source = f"def f(session: Session, x: Any):\n    assert {line} and x\n"
    assert list(faults(ast.parse(source), computed_names()))


def test_a_preflight_without_asserts_refuses_unlike_tokenizers_too(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "teacher")
    tokenizer.add_tokens(["<|new|>"])
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((BUNDLED / "teacher" / name).read_bytes())
    tokenizer.save_pretrained(tmp_path)
    session = Session(tmp_path / "run", small_recipe(teacher=str(tmp_path)))
    source = Path(pipeline.__file__).read_text(encoding="utf-8")
    as_python_o: dict[str, Any] = {"__name__": "pipeline"}
    exec(compile(source, pipeline.__file__, "exec", optimize=1), as_python_o)
    with pytest.raises(ModelError, match="need the same tokenizer"):
        as_python_o["preflight"](session)
