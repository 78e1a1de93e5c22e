"""Completions and teacher's signals in parts: an interruption costs the open part alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import ROWS

from warmup_distill.cluster import places
from warmup_distill.cluster.places import Here
from warmup_distill.engines import drawing
from warmup_distill.engines.progress import Progress
from warmup_distill.engines.transformers import TransformersEngine
from warmup_distill.models.holding import ModelRef
from warmup_distill.models.vocabulary import Vocabulary
from warmup_distill.store.stopping import Stopped
from warmup_distill.training import signalling, signals

PROMPTS = [[5, 6, 7], [4], [10, 11, 12, 13], [20, 21]]
STREAMS = [[1, 2], [3, 4], [5, 6], [7, 8]]


class Asked:
    """`leave_if_asked` of a process to which a signal comes while it works on a part."""

    def __init__(self, part: int) -> None:
        self.left = part

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped(15)


def draw(folder: Path, vocabulary: Vocabulary, batch_tokens: int, **settings: Any) -> Any:
    """What was drawn, and how many tokens the progress bar heard of."""
    heard: list[int] = []
    settings = {"model": "bundled:student", "temperature": 1.0} | settings
    wanted = drawing.Drawing(
        vocabulary=vocabulary, prompts=PROMPTS, streams=STREAMS, max_new_tokens=8,
        batch_tokens=batch_tokens,
        **settings | {"model": ModelRef.of(settings["model"], "float32")},
    )  # fmt: skip
    with Progress("drawing", 8 * 8) as progress:
        progress.advance = heard.append  # type: ignore[method-assign]
        (found,) = drawing.draw(Here(), [wanted], [folder], progress)
    return found, sum(heard)


def write_signals(folder: Path, vocabulary: Vocabulary, kind: Any) -> Any:
    """The signal of a teacher, as it is read afterwards."""
    task = signalling.Signalling(
        teacher=ModelRef.of("bundled:teacher", "float32"), vocabulary=vocabulary, kind=kind,
        top_k=5, temperature=1.0,
    )  # fmt: skip
    return signalling.write_signals(Here(), task, ROWS, folder)


def tokens(drawn: Any) -> int:
    return sum(len(one.completion_ids) for group in drawn for one in group)


def test_an_interruption_keeps_what_was_drawn(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, heard = draw(tmp_path / "whole", vocabulary, 9999)
    assert heard == tokens(whole) and [len(group) for group in whole] == [2, 2, 2, 2]
    with monkeypatch.context() as patch:
        patch.setattr(places, "leave_if_asked", Asked(2))
        with pytest.raises(Stopped):
            draw(tmp_path / "parts", vocabulary, 20)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert len(kept) == 2
    asked: list[Any] = []
    sample = TransformersEngine.sample
    monkeypatch.setattr(
        TransformersEngine,
        "sample",
        lambda self, prompts, *a, **n: asked.extend(prompts) or sample(self, prompts, *a, **n),
    )
    found, heard = draw(tmp_path / "parts", vocabulary, 9999)
    assert found == whole and heard == tokens(whole)
    assert len(asked) == 2 and all(prompt in PROMPTS for prompt in asked)
    assert all(path.stat().st_mtime_ns == made for path, made in kept.items())


@pytest.mark.parametrize(
    "change", [{"model": "bundled:teacher"}, {"temperature": 0.5}, {"no_repeat_ngram_size": 2}]
)
def test_what_answers_another_question_is_drawn_again(
    change: dict[str, Any], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    draw(tmp_path, vocabulary, 9999)
    (path,) = tmp_path.iterdir()
    made = path.stat().st_mtime_ns
    draw(tmp_path, vocabulary, 9999)
    assert path.stat().st_mtime_ns == made
    draw(tmp_path, vocabulary, 9999, **change)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mtime_ns != made


def test_an_interruption_keeps_the_signals_that_were_written(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path) -> Any:
        written = write_signals(folder, vocabulary, "hidden")
        return written.of([3, 0, 1, 2], torch.device("cpu"))["hidden"]

    one_part = write(tmp_path / "whole")
    monkeypatch.setattr(signalling, "ROWS_PER_PART", 2)
    monkeypatch.setattr(signals, "ROWS_PER_PART", 2)
    with monkeypatch.context() as patch:
        patch.setattr(places, "leave_if_asked", Asked(1))
        with pytest.raises(Stopped):
            write(tmp_path / "parts")
    (kept,) = (tmp_path / "parts").iterdir()
    made = kept.stat().st_mtime_ns
    assert (write(tmp_path / "parts") - one_part).abs().max() < 1e-5
    assert kept.stat().st_mtime_ns == made and len(list((tmp_path / "parts").iterdir())) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "unsealed", "of another kind"])
def test_a_signal_that_was_changed_is_written_again(
    damage: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    def write(kind: Any = "top_k") -> dict[str, Any]:
        written = write_signals(tmp_path, vocabulary, kind)
        return written.of([0, 1, 2, 3], torch.device("cpu"))

    before = write()
    array, about = (tmp_path / "part-00000" / name for name in ("rest.npy", "about.json"))
    content = array.read_bytes()
    if damage == "flipped":
        array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        array.write_bytes(content[:-8])
    elif damage == "missing":
        array.unlink()
    elif damage == "unsealed":
        about.write_text('{"of": 3, "files": []}', encoding="utf-8")
    else:
        write("hidden")
    after = write()
    assert after.keys() == before.keys()
    assert all(after[name].equal(before[name]) for name in before)
    names = {path.name for path in (tmp_path / "part-00000").iterdir()}
    assert names == {"about.json", "ids.npy", "logprobs.npy", "rest.npy"}


def test_completions_that_were_changed_are_drawn_again(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    whole, _ = draw(tmp_path, vocabulary, 9999)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    place = content.index(b"eos") if b"eos" in content else content.index(b"length")
    content[place] ^= 1
    path.write_bytes(content)
    assert draw(tmp_path, vocabulary, 9999)[0] == whole
    path.write_bytes(content[: len(content) // 2])  # whose it is, it does not say any more
    assert draw(tmp_path, vocabulary, 9999)[0] == whole
    assert path.read_bytes() == content[: len(content) // 2]
