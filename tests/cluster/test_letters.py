"""Letters of a training: what is written by one process is read by another, and then forgotten."""

from pathlib import Path

from warmup_distill.cluster.letters import Letters, News
from warmup_distill.cluster.saying import Said

NEWS = News(step=3, steps=10, loss=0.5, said=(Said(logger="a.b", level=30, text="‖"),))


def test_news_are_read_as_they_were_told_and_the_newest_counts(tmp_path: Path) -> None:
    letters = Letters(tmp_path / "letters")
    with letters.kept():
        assert letters.news() == [] and letters.ended() == {} and letters.asked_to_stop() is None
        letters.tell("0", News(step=1, steps=10))
        letters.tell("1", News())
        letters.tell("0", NEWS)
        assert Letters(letters.folder).news() == [NEWS, News()]
        letters.ask_to_stop(15)
        letters.ask_to_stop(2)
        assert letters.asked_to_stop() == 15
        letters.end({"counts": {"rows": 2}})
        assert letters.ended() == {"counts": {"rows": 2}}
    assert not letters.folder.exists()


def test_letters_of_a_training_that_was_killed_are_not_read_again(tmp_path: Path) -> None:
    Letters(tmp_path / "letters").end({"counts": {}})
    with Letters(tmp_path / "letters").kept():
        assert Letters(tmp_path / "letters").ended() == {}
