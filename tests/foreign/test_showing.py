"""Values in brief, and JSON that no terminal can be steered by."""

import json
import re
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_distill.foreign.showing import brief, clean, json_line, listed


def laughs(levels: int) -> list[Any]:
    """A list of nine times itself, level by level: 9 ** levels values, written out."""
    found: list[Any] = ["x"]
    for _ in range(levels):
        found = [found] * 9
    return found


@pytest.mark.parametrize(
    "value",
    [
        laughs(30), {"a": laughs(30)}, [{"b": laughs(30)}] * 9, "x" * 10**7, b"x" * 10**7,
        10**100_000, -(10**100_000), [10**100_000] * 9, {str(i): i for i in range(10**5)},
        set(range(10**5)), datetime(2024, 1, 1), None, float("inf"), "\ud800",
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_is_shown_in_brief_whatever_it_holds(value: Any) -> None:
    began = time.perf_counter()
    assert 0 < len(brief(value)) <= 80
    assert time.perf_counter() - began < 5  # written out, most of these would take years


@given(
    st.integers(-999, 999) | st.text("abc", max_size=20) | st.lists(st.integers(0, 9), max_size=6)
)
def test_small_values_are_shown_as_python_writes_them(value: Any) -> None:
    assert brief(value) == repr(value)


def test_a_list_of_names_ends_somewhere() -> None:
    assert listed(["a", "b", 3]) == "a, b, 3"
    assert len(listed(f"{i}" * 1000 for i in range(10**6))) < 3000


@given(st.dictionaries(st.text(), st.text() | st.integers()), st.booleans())
def test_a_line_of_json_is_what_it_was_and_steers_nothing(value: Any, ascii_only: bool) -> None:
    line = json_line(value, ascii_only=ascii_only)
    assert json.loads(line) == value and clean(line) == line
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)
    assert not ascii_only or line.isascii()
