"""What workers say is shown once, as one process would show it; all else is in Ray's logs."""

import re
import shutil
from pathlib import Path

import pytest
from isolated import ENVIRONMENT, finish, require_isolation, start

SAID = [
    "UserWarning: the model is old", "a hook is loose", "a weight is missing",
    "the plain path is taken",
]  # fmt: skip


def test_a_warning_of_two_workers_is_shown_once_and_what_the_lost_ones_wrote_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_isolation()
    monkeypatch.setitem(ENVIRONMENT, "CI", "true")  # libraries say things twice there
    script = str(Path(__file__).with_name("talkative.py"))
    said = finish(start(script, folder=tmp_path), tmp_path)
    assert "workers: 2" in said
    assert [said.count(message) for message in SAID] == [1] * len(SAID)
    assert "chatter" not in said and "nobody wants to know" not in said
    found = re.search(r"What the workers wrote is in (\S+)\.$", said, re.MULTILINE)
    assert found, said
    logs = Path(found[1])
    written = [path.read_text(errors="replace") for path in logs.glob("worker-*.err")]
    assert any("last words" in text for text in written)
    shutil.rmtree(logs.parents[2])
