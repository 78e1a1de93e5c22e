"""Rows of a step shared out among processes: each of them once, those of a prompt together."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from warmup_distill.training.shares import Shares

PROMPTS = st.lists(st.integers(1, 6), min_size=1, max_size=12)
"""Rows of each prompt, one prompt after the other."""


def shares(prompts: list[int], per_step: int, passes: int, processes: int) -> list[list[list[int]]]:
    """The passes of each process."""
    owners = [owner for owner, count in enumerate(prompts) for _ in range(count)]
    order = range(len(owners))
    found = [
        Shares(order=order, owners=owners, per_step=per_step, passes=passes, process=(n, processes))
        for n in range(processes)
    ]
    assert {len(list(one)) for one in found} == {len(found[0])}
    return [list(one) for one in found]


@given(PROMPTS, st.integers(1, 9), st.integers(1, 3), st.integers(2, 4))
def test_each_step_has_the_rows_of_one_process_once(
    prompts: list[int], per_step: int, passes: int, processes: int
) -> None:
    found = shares(prompts, per_step, passes, processes)
    rows = list(range(sum(prompts)))
    steps = [rows[start : start + per_step] for start in range(0, len(rows), per_step)]
    for number, step in enumerate(steps):
        taken = [
            row
            for process in found
            for one in process[number * passes : (number + 1) * passes]
            for row in one
        ]
        assert taken == step


@given(PROMPTS, st.integers(1, 9), st.integers(1, 3), st.integers(2, 4))
def test_the_rows_of_a_prompt_in_a_step_are_in_one_pass_of_one_process(
    prompts: list[int], per_step: int, passes: int, processes: int
) -> None:
    found = shares(prompts, per_step, passes, processes)
    owners = [owner for owner, count in enumerate(prompts) for _ in range(count)]
    for number in range(len(found[0]) // passes):
        here = slice(number * passes, (number + 1) * passes)
        batches = [one for process in found for one in process[here] if one]
        held = [owner for one in batches for owner, _ in groupby(owners[row] for row in one)]
        assert len(held) == len(set(held))


def test_rows_of_unlike_prompts_are_shared_out_evenly() -> None:
    assert shares([1] * 8, 8, 2, 2) == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    # three rows of one prompt and five others: their middles, 1.5, 3.5, …, fall into 4 + 4
    assert shares([3, 1, 1, 1, 1, 1], 8, 1, 2) == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]
    # the last step of an epoch has one row, and one process has none
    assert shares([1] * 5, 4, 1, 2) == [[[0, 1], []], [[2, 3], [4]]]
