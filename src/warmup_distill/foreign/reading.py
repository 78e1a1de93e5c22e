"""One net for all that reading foreign bytes can raise, and what a file is before it is opened.

Recipes, rows, models and templates are written by others. Whatever stands in them, there is a
result or one message.
"""

import contextlib
import errno
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from warmup_distill.errors import NumbersError, WarmupDistillError

OUT_OF_MEMORY = ("allocate memory", "out of memory", "map segment", "new thread", "bad_alloc")
"""Words of the libraries below us."""
MOST_REASON = 300
"""Characters of a library's message that one of ours repeats."""


@contextlib.contextmanager
def reading(kind: type[WarmupDistillError], what: str) -> Iterator[None]:
    """The one net around whatever reads foreign bytes: all that it raises becomes one message.

    Our own errors pass, and so does what is not the bytes' fault: Ctrl-C, a full disk.

    Args:
        kind: the error to raise.
        what: begins its message, as in `rows.jsonl:2: expected JSON`; the reason follows.
    """
    try:
        yield
    except (WarmupDistillError, NumbersError):
        raise
    except Exception as fault:
        if is_full_disk(fault):
            raise
        raise kind(f"{what}: {reason(fault)}") from fault
    except BaseException as fault:
        if type(fault).__name__ != "PanicException":  # what libraries in Rust raise
            raise
        raise kind(f"{what}: {reason(fault)}") from fault


def reason(fault: BaseException) -> str:
    """Why something failed, in a line of bounded length."""
    if isinstance(fault, MemoryError) and not str(fault):
        return "there is not enough memory for it"
    if isinstance(fault, RecursionError):
        return "it is nested too deeply"
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    colon = lines and lines[0].endswith(":")  # then the next line is what it says
    first = " ".join(lines[: 2 if colon else 1])[:MOST_REASON]
    # The text of these is a bare name or number, or it speaks of the library's own code.
    bare = LookupError | ArithmeticError | AttributeError | TypeError | AssertionError
    return f"{type(fault).__name__}: {first}" if isinstance(fault, bare) or not first else first


def is_full_disk(fault: BaseException) -> bool:
    """Whether there is no room to write; libraries that write for us say it in their own words."""
    number = getattr(fault, "errno", None)
    said = ("No space left on device", "File too large")
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        words in str(fault) for words in said
    )


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether something failed for want of memory."""
    if isinstance(fault, MemoryError) or getattr(fault, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(fault).lower() for words in OUT_OF_MEMORY)


def what_is_at(path: Path) -> str:
    """`a file`, `a folder`, `none`, or `no ordinary file`: a pipe or a device, which may not end.

    Raises:
        OSError: the file system will not say.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "none"
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "no ordinary file"


def require_file(path: Path) -> None:
    """Raise an OSError unless there is an ordinary file; for what is read inside of `reading`."""
    if (found := what_is_at(path)) != "a file":
        raise OSError(f"there is {found}")


def read_text(path: Path, kind: type[WarmupDistillError], what: str, *, most: int) -> str:
    """The text of an ordinary file in UTF-8, of so many characters at the most.

    Raises:
        WarmupDistillError: of that kind; its message begins with `what`.
    """
    with reading(kind, what):
        require_file(path)
        size = path.stat().st_size  # Python takes as much memory as it is told to read
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(min(size, most) + 1)
    if len(text) > most:
        raise kind(f"{what}: it has more than {most:,} characters")
    return text


def stays_inside(name: str) -> bool:
    """Whether a relative name cannot leave its folder, on any system.

    Example:
        >>> stays_inside("a/b.gguf"), stays_inside("a/../../b"), stays_inside("C:\\\\b")
        (True, False, False)
    """
    steps = re.split(r"[/\\]", name)
    return not (":" in name or "\0" in name or {"", ".", ".."} & set(steps))
