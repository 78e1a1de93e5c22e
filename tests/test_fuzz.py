"""Whatever the bytes: a result, or one of our own errors. No traceback that is not ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_run import small_recipe

from warmup_distill.data.sources import read_rows
from warmup_distill.errors import WarmupDistillError
from warmup_distill.models.chat import encode_prompt, try_template
from warmup_distill.models.loading import (
    BUNDLED,
    load_config,
    load_generation_config,
    load_tokenizer,
    locate,
)
from warmup_distill.planning.facts import model_facts
from warmup_distill.recipe import Source
from warmup_distill.recipe.reading import dump_recipe, load_recipe
from warmup_distill.records import Pair, Rollout
from warmup_distill.scoring.files import score_file
from warmup_distill.store.artifacts import read_log, read_parts
from warmup_distill.store.manifest import Manifest
from warmup_distill.store.opening import open_run
from warmup_distill.training.checkpoints import newest_whole

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
SECTIONS = ["teacher", "student", "seed", "prompts", "rollouts", "warmup", "distill", "evaluate"]


def ours_or_fine(work: Callable[[], Any]) -> None:
    try:
        work()
    except WarmupDistillError as error:
        assert str(error)


@quick
@given(content=st.binary(max_size=200))
@example(content=b"\xff\xfe\x00")
@example(content=b"a: " * 300 + b"b")
@example(content=b"[" * 2000)
def test_a_recipe_of_any_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    ours_or_fine(lambda: load_recipe(path))


@quick
@given(sections=st.dictionaries(st.sampled_from(SECTIONS), values))
def test_a_recipe_of_any_values(sections: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(sections), encoding="utf-8")
    ours_or_fine(lambda: load_recipe(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@quick
@given(content=st.binary(max_size=200))
@example(content=b'{"prompt": "\\ud800", "prediction": "\\udfff", "reference": "a"}')
@example(content=b'{"prompt": NaN, "prediction": 1e999, "reference": "a"}')
@example(content=b"\xef\xbb\xbf{}")
@example(content=b"[" * 100_000)
@example(content="caf\u00e9".encode("latin-1"))
def test_rows_of_any_bytes(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    ours_or_fine(lambda: read_rows(Source(file=path)))
    ours_or_fine(lambda: list(score_file(path, "exact_match")))


@quick
@given(row=values)
def test_rows_of_any_values(row: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    ours_or_fine(lambda: read_rows(Source(file=path)))
    ours_or_fine(lambda: list(score_file(path, "boxed")))


@quick
@given(content=st.binary(max_size=100) | values.map(lambda v: json.dumps(v).encode()))
@example(content=b'{"stages": {"prompts": 3}}')
@example(content=b'{"stages": {"prompts": {"state": "complete", "files": {"prompts/a": 3}}}}')
@example(content=b'{"stages": {"prompts": {"state": "complete", "files": ["prompts/a"]}}}')
@example(content=b'{"stages": {"": {"files": {"/etc/hostname": {"bytes": 1, "sha256": ""}}}}}')
def test_a_manifest_of_any_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(dump_recipe(small_recipe()), encoding="utf-8")
    (tmp_path / "manifest.json").write_bytes(content)
    ours_or_fine(lambda: open_run(tmp_path, small_recipe(), {"prompts": "a"}, {"a": "b"}))
    ours_or_fine(lambda: Manifest(tmp_path).complete("prompts"))


@quick
@given(content=st.binary(max_size=100) | values.map(lambda v: json.dumps(v).encode()))
@example(content=b"PAR1" + b"\xff" * 40 + b"PAR1")
@example(content=b'{"about": {}, "files": {"../../seal.json": 3}}')
@example(content=b'{"step": "1"}\n{}')
def test_files_of_a_run_of_any_bytes(content: bytes, tmp_path: Path) -> None:
    names = ("part-00000.parquet", "log.jsonl", "watch.json", "checkpoint-3/seal.json")
    (tmp_path / "checkpoint-3").mkdir(exist_ok=True)
    for name in names:
        (tmp_path / name).write_bytes(content)
    for record in (Pair, Rollout):
        ours_or_fine(lambda record=record: list(read_parts(tmp_path, record)))
    ours_or_fine(lambda: read_log(tmp_path / "log.jsonl"))
    ours_or_fine(lambda: read_log(tmp_path / "watch.json"))
    ours_or_fine(lambda: newest_whole(tmp_path, {"seed": 0}))


CONFIG = json.loads((BUNDLED / "student" / "config.json").read_text(encoding="utf-8"))


@quick
@given(field=st.sampled_from(sorted(CONFIG)), value=values)
@example(field="num_hidden_layers", value=10**9)
@example(field="rope_parameters", value={"rope_type": "linear", "factor": 0})
@example(field="layer_types", value=["full_attention"] * 1000)
def test_a_configuration_of_any_values(field: str, value: Any, tmp_path: Path) -> None:
    changed = json.dumps(CONFIG | {field: value})
    (tmp_path / "config.json").write_text(changed, encoding="utf-8")
    (tmp_path / "generation_config.json").write_text(changed, encoding="utf-8")
    ours_or_fine(lambda: model_facts(str(tmp_path)))
    ours_or_fine(lambda: load_generation_config(str(tmp_path)))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@quick
@given(content=st.binary(max_size=100) | values.map(lambda v: json.dumps(v).encode()))
def test_a_model_folder_with_a_file_of_any_bytes(name: str, content: bytes, tmp_path: Path) -> None:
    for path in (BUNDLED / "student").glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    ours_or_fine(lambda: load_config(str(tmp_path)))
    ours_or_fine(lambda: load_tokenizer(str(tmp_path)))


@quick
@given(name=st.text(max_size=20) | st.sampled_from(["package:", "bundled:"]).flatmap(
    lambda kind: st.text("abz./\\:~\0", max_size=20).map(lambda rest: kind + rest)))  # fmt: skip
def test_a_model_of_any_name(name: str) -> None:
    ours_or_fine(lambda: locate(name))


@settings(quick, max_examples=15)
@given(text=st.text("{}%ab '|()*9.[]_", max_size=40))
@example(text="{{ messages }}")
@example(text="{% for a in [1] %}")
def test_a_chat_template_of_any_text_is_tried(text: str) -> None:
    tokenizer = load_tokenizer("bundled:student")
    tokenizer.chat_template = text
    ours_or_fine(lambda: try_template(tokenizer))
    ours_or_fine(lambda: encode_prompt(tokenizer, "a", "chat"))


@pytest.mark.parametrize("format", ["chat", "text"])
@quick
@given(text=st.text(max_size=80) | st.sampled_from(["<|end|>", "{{ 1/0 }}", "{% raw %}", "\0"]))
def test_a_prompt_of_any_text_becomes_ids(text: str, format: Any) -> None:
    tokenizer = load_tokenizer("bundled:student")
    ids = encode_prompt(tokenizer, text, format)
    assert all(0 <= one < len(tokenizer) for one in ids)
    if format == "chat":
        assert tokenizer.eos_token_id not in ids
