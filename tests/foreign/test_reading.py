"""The net: whatever a reader raises is one of our errors, and what is not its fault passes."""

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors

from warmup_distill.errors import DataError, ModelError, NumbersError, RecipeError
from warmup_distill.foreign.reading import read_text, reading, reason, stays_inside, what_is_at
from warmup_distill.store.stopping import Stopped


def panic() -> None:
    """A library in Rust that panics: its error is not even an `Exception`."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.post_processor = processors.TemplateProcessing("x $A", special_tokens=[("x", 0)])
    broken = tokenizer.to_str().replace('"ids":["x"]', '"ids":[]')
    broken = broken.replace('"special_tokens":{"x"', '"special_tokens":{"y"')
    Tokenizer.from_str(broken).encode("a")


def raised(fault: BaseException) -> Any:
    raise fault


@pytest.mark.parametrize(
    "work",
    [
        lambda: raised(ValueError("no")),
        lambda: raised(KeyError("column")),
        lambda: raised(MemoryError()),
        lambda: raised(RecursionError()),
        lambda: raised(OverflowError("too large")),
        lambda: raised(OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300)),
        lambda: raised(pa.ArrowInvalid("no Parquet")),
        lambda: raised(Exception()),
        lambda: b"\xff".decode("utf-8"),
        lambda: "\ud800".encode(),
        panic,
    ],
)
def test_whatever_a_reader_raises_becomes_one_line_of_ours(work: Any) -> None:
    with (
        pytest.raises(DataError, match="^rows.jsonl:2: .") as error,
        reading(DataError, "rows.jsonl:2"),
    ):
        work()
    assert "\n" not in str(error.value) and error.value.__cause__ is not None


@pytest.mark.parametrize(
    "fault",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        Stopped(15),
        ModelError("said already"),
        NumbersError("not finite"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("write failed: No space left on device"),
    ],
)
def test_what_is_not_the_bytes_fault_passes(fault: BaseException) -> None:
    with pytest.raises(type(fault)) as error, reading(DataError, "rows"):
        raise fault
    assert error.value is fault


def test_a_signal_is_caught_by_no_library_that_catches_exceptions() -> None:
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (KeyError("column"), "KeyError: 'column'"),
        (ValueError("a sentence\nand more"), "a sentence"),
        (
            ValueError("for the field 'x':\n    expected int\nmore"),
            "for the field 'x': expected int",
        ),
        (ValueError(), "ValueError: "),
        (MemoryError(), "there is not enough memory for it"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
    ],
)
def test_a_reason_is_a_sentence(fault: Exception, said: str) -> None:
    assert reason(fault) == said


def test_a_reason_is_bounded() -> None:
    assert len(reason(ValueError("x" * 10**6))) <= 300


def read(path: Path) -> str:
    return read_text(path, RecipeError, "expected text", most=5)


def test_text_comes_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes("ä\r\nb".encode())
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfab")
    assert (read(tmp_path / "plain"), read(tmp_path / "marked")) == ("ä\nb", "ab")


def test_what_never_ends_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "device", "loop", "sparse", "none", ".", "x" * 300, "a\0b", "\udcff"):
        with pytest.raises(RecipeError, match="^expected text: "):
            read(tmp_path / name)


def test_a_place_is_named_by_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    found = {name: what_is_at(tmp_path / name) for name in ("file", ".", "pipe", "no", "file/x")}
    assert found == {
        "file": "a file", ".": "a folder", "pipe": "no ordinary file",
        "no": "none", "file/x": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../x",
        "a/../../x",
        "/x",
        "a//x",
        "a/",
        "",
        ".",
        "a/.",
        "\\x",
        "a\\..\\x",
        "C:x",
        "a\0b",
    ],
)
def test_a_name_that_leaves_its_folder_on_any_system_is_known(name: str) -> None:
    assert not stays_inside(name)


@given(st.lists(st.from_regex(r"[a-z0-9_][a-z0-9._-]*", fullmatch=True), min_size=1, max_size=4))
def test_ordinary_names_stay_inside(steps: list[str]) -> None:
    assert stays_inside("/".join(steps))
