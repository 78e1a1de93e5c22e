"""Hashes are of whole files, and the cache of them is never believed where it could be wrong."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warmup_distill.store import hashing
from warmup_distill.store.fingerprints import content
from warmup_distill.store.hashing import LARGE, sha256


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept hashes, in a world where no change is too recent to keep one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "RECENT", -(10**18))
    return tmp_path / "cache" / "warmup-distill" / "hashes"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE + 5))
    return path


def by_hand(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def only_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The hash that is given without a look at the content, if one is."""

    def never(*_: Any) -> None:
        raise NotImplementedError

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", never)
        try:
            return sha256(path)
        except NotImplementedError:
            return None


def test_a_hash_is_kept_and_given_again(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert only_kept(file, monkeypatch) is None
    assert sha256(file) == by_hand(file) == only_kept(file, monkeypatch)
    assert len(list(cache.iterdir())) == 1


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LARGE // 2)
        byte = file.read(1)
        file.seek(LARGE // 2)
        file.write(bytes([byte[0] ^ 1]))


def and_set_the_time_back(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        before = path.stat()
        change(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns

    return changed


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


@pytest.mark.parametrize("change", [overwrite, replace])
@pytest.mark.parametrize("back", [False, True])
def test_a_change_of_the_same_length_is_seen_whatever_the_time_says(
    back: bool, change: Callable[[Path], None], cache: Path, file: Path
) -> None:
    before = sha256(file)
    (and_set_the_time_back(change) if back else change)(file)
    assert sha256(file) == by_hand(file) != before


def test_the_hash_of_what_has_just_changed_is_not_kept(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "RECENT", 10**18)  # all of this just now
    assert sha256(file) == by_hand(file)
    assert not cache.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"\xff{"),
        lambda path: path.write_text("[" * 100_000, encoding="utf-8"),
        lambda path: path.write_text('{"file": 3, "sha256": "0"}', encoding="utf-8"),
        lambda path: path.write_text(
            json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"sha256": "x" * 64}),
            encoding="utf-8",
        ),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    ],
)
def test_a_broken_cache_costs_time_and_nothing_else(
    spoil: Callable[[Path], Any], cache: Path, file: Path
) -> None:
    sha256(file)
    (entry,) = cache.iterdir()
    spoil(entry)
    assert sha256(file) == by_hand(file)


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "RECENT", -(10**18))
    for place in (str(file), "/proc/nothing", "relative", "/" + "x" * 300):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        monkeypatch.setenv("HOME", "/proc/nobody")
        assert sha256(file) == by_hand(file)


def test_processes_keep_hashes_side_by_side(cache: Path, file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from warmup_distill.store import hashing\n"
        "hashing.RECENT = -(10**18)\n"
        "for _ in range(200): print(hashing.sha256(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(file)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        found, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and set(found.split()) == {by_hand(file)}
    assert [path.suffix for path in cache.iterdir()] == [".json"]


def test_small_files_fill_no_cache(cache: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"a" * 1000)
    assert sha256(small) == by_hand(small) and not cache.exists()


def test_one_row_of_a_large_file_changes_its_content(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        json.dumps({"q": f"What is {i:06d} + 1?", "a": "#" * 40}) + "\n" for i in range(100_000)
    ]
    path.write_text("".join(rows), encoding="utf-8")
    before = content(path)
    assert path.stat().st_size > 7 * 2**20
    for number in (1_234, 55_555, 99_999):
        changed = [*rows[:number], rows[number].replace("What", "When"), *rows[number + 1 :]]
        path.write_text("".join(changed), encoding="utf-8")
        assert content(path) != before
    path.write_text("".join(rows), encoding="utf-8")
    assert content(path) == before


def test_every_byte_of_a_model_folder_is_its_content(tmp_path: Path) -> None:
    weights = bytearray(os.urandom(26 * 10**6))
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    before = content(tmp_path)
    for unread in (".gitattributes", "README.md", "trainer_log.jsonl"):
        (tmp_path / unread).write_text("no model reads this", encoding="utf-8")
    assert content(tmp_path) == before
    weights[9_000_000:9_004_000] = bytes(4_000)
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert content(tmp_path) != before
    templates = tmp_path / "additional_chat_templates"
    templates.mkdir()
    with_weights = content(tmp_path)
    (templates / "tool.jinja").write_text("{{ 1 }}", encoding="utf-8")
    assert content(tmp_path) != with_weights


@pytest.mark.parametrize(
    "name", ["org/model", "x" * 300, "~nobody-here/model", "a\0b", "/dev/zero"]
)
def test_what_is_no_file_here_has_no_content(name: str) -> None:
    assert content(Path(name)) is None
