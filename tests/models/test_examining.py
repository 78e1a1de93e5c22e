"""A model folder of any content is refused in words before anything of it is built."""

import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warmup_distill.errors import ModelError
from warmup_distill.models.loading import (
    BUNDLED,
    load_config,
    load_generation_config,
    load_model,
    load_tokenizer,
    locate,
)

Change = Callable[[Path], object]


def folder(tmp_path: Path, change: Change) -> str:
    """A copy of the bundled student, changed in one place."""
    copy = Path(shutil.copytree(BUNDLED / "student", tmp_path / "student"))
    change(copy)
    return str(copy)


def fields(file: str, **values: Any) -> Change:
    def change(copy: Path) -> None:
        known = json.loads((copy / file).read_text(encoding="utf-8"))
        (copy / file).write_text(json.dumps(known | values), encoding="utf-8")

    return change


def instead(file: str, make: Callable[[Path], object]) -> Change:
    def change(copy: Path) -> None:
        (copy / file).unlink(missing_ok=True)
        make(copy / file)

    return change


def bytes_of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


UNFIT = {
    "num_hidden_layers": [100_000, 10**12, 0, -1, "6", 1e5, [1], 10**300],
    "hidden_size": [10**9, 0, -64, 2**63],
    "vocab_size": [10**12, 0],
    "num_attention_heads": [10**9, 0, 3],
    "num_key_value_heads": [0, 10**9],
    "intermediate_size": [10**12],
    "head_dim": [10**9],
    "max_position_embeddings": [10**12],
    "text_config": [{"num_hidden_layers": 10**9}, {"a": {"b": {"n_layers": 10**9}}}],
    "n_layer": [10**9],
    "num_experts": [10**9],
    "model_type": ["nothing", ["llama"], 5],
    "dtype": ["nothing"],
    "eos_token_id": ["abc", {"a": 1}],
    "configuration_files": [["../config.1.0.json"]],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in UNFIT.items() for value in values]
)
def test_a_configuration_that_no_model_has_is_refused_before_it_is_built(
    field: str, value: Any, tmp_path: Path
) -> None:
    name = folder(tmp_path, fields("config.json", **{field: value}))
    began = time.perf_counter()
    with pytest.raises(ModelError, match="student"):
        load_config(name)
    assert time.perf_counter() - began < 10  # some would take hours, layer by layer


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "make",
    [
        bytes_of(b"["), bytes_of(b"[" * 100_000), bytes_of(b"[]"), bytes_of(b"\0" * 99),
        bytes_of('{"a": 1}'.encode("utf-16")), bytes_of(b'{"a": ' + b"9" * 5000 + b"}"),
        os.mkfifo, terabyte, lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.name),
    ],
    ids=["cut", "deep", "list", "NUL", "UTF-16", "digits", "pipe", "terabyte", "device", "loop"],
)  # fmt: skip
def test_a_file_of_any_kind_in_a_model_folder_is_refused_in_words(
    file: str, make: Callable[[Path], object], tmp_path: Path
) -> None:
    name = folder(tmp_path, instead(file, make))
    with pytest.raises(ModelError, match="student"):
        load_config(name)
        load_tokenizer(name)


def safetensors(header: bytes, length: int | None = None) -> Change:
    size = struct.pack("<Q", len(header) if length is None else length)
    return instead("model.safetensors", bytes_of(size + header))


@pytest.mark.parametrize(
    "change",
    [
        safetensors(b"{}", 2**60),
        safetensors(b"{" + b" " * 99_000_000),
        safetensors(b"\xff\xfe"),
        instead("model.safetensors", bytes_of(b"")),
        lambda copy: os.truncate(copy / "model.safetensors", 50_000),
        instead("model.safetensors", Path.mkdir),
        instead("model.safetensors", os.mkfifo),
        instead("model.safetensors.index.json", bytes_of(b"[]")),
        instead("model.safetensors.index.json", bytes_of(b'{"weight_map": {"a": "../b"}}')),
        instead("model.safetensors.index.json", bytes_of(b'{"weight_map": {"a": "/b"}}')),
        instead("adapter_config.json", bytes_of(b'{"base_model_name_or_path": "a/b"}')),
    ],
    ids=["2^60", "99 MB", "no header", "empty", "cut", "folder", "pipe", "no index", "outside",
         "absolute", "adapters"],
)  # fmt: skip
def test_weights_of_any_kind_are_refused_in_words(change: Change, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="student"):
        load_model(folder(tmp_path, change))


@pytest.mark.parametrize("ends", ["abc", ["abc"], {"a": 1}, 1.5, [[1]]])
def test_an_end_of_sequence_that_is_no_id_is_refused(ends: Any, tmp_path: Path) -> None:
    name = folder(tmp_path, fields("generation_config.json", eos_token_id=ends))
    with pytest.raises(ModelError, match="eos_token_id"):
        load_generation_config(name)


def test_a_model_without_a_generation_configuration_has_none(tmp_path: Path) -> None:
    name = folder(tmp_path, lambda copy: (copy / "generation_config.json").unlink())
    assert load_generation_config(name) is None


@pytest.mark.parametrize("content", [b"[", b"[]", b"[" * 100_000])
def test_a_generation_configuration_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    name = folder(tmp_path, instead("generation_config.json", bytes_of(content)))
    with pytest.raises(ModelError, match="student"):
        load_generation_config(name)
        raise ModelError("student: transformers took it for a missing one")


def test_a_tokenizer_that_panics_is_refused_in_words(tmp_path: Path) -> None:
    known = json.loads((BUNDLED / "student" / "tokenizer.json").read_text(encoding="utf-8"))
    step = {"Sequence": {"id": "A", "type_id": 0}}
    known["post_processor"] = {
        "type": "TemplateProcessing", "special_tokens": {}, "pair": [step],
        "single": [{"SpecialToken": {"id": "nothing", "type_id": 0}}, step],
    }  # fmt: skip
    content = bytes_of(json.dumps(known).encode())
    with pytest.raises(ModelError, match="fails on a short text"):
        load_tokenizer(folder(tmp_path, instead("tokenizer.json", content)))


@pytest.mark.parametrize(
    "name",
    [
        "package:gguf/../../x.gguf", "package:gguf/..", "package:gguf//etc/x.gguf",
        "package:gguf/", "package:gguf/..\\..\\x.gguf", "package:gguf/C:x.gguf",
        "package:gguf/a\0b.gguf", "package:../x.gguf", "package:sys/x.gguf",
        "package:a.b/x.gguf", "package:gguf/nothing.gguf", "package:gguf/scripts",
        "bundled:../x", "bundled:teacher/../student", "bundled:", "bundled:/", "bundled:.",
        "bundled:teacher/", "bundled:teacher\0", "x" * 300, "./" + "x" * 300, "~/" + "y" * 300,
        "a\0b", "/dev/zero", "/dev/zero/x.gguf", "\ud800", "~nobody-of-this-name/x",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_name_that_is_no_model_s_is_refused_in_words(name: str) -> None:
    with pytest.raises(ModelError):
        load_config(name)


def test_a_package_s_file_stays_in_its_package() -> None:
    with pytest.raises(ModelError, match="a file of that package"):
        locate("package:gguf/../numpy/x.gguf")
