"""A batch is what the recipe names, however many processes share it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_run import small_recipe

from warmup_distill.errors import RecipeError
from warmup_distill.recipe.batches import most_processes, require_shares, share_of_batch

sizes = st.integers(1, 64)


@pytest.mark.parametrize(
    ("named", "processes", "each"),
    [
        ((8, 8), 1, (8, 8)),
        ((8, 8), 2, (8, 4)),  # 32 rows each: four passes instead of eight
        ((8, 8), 8, (8, 1)),
        ((8, 8), 16, (4, 1)),  # 4 rows each fit into one pass
        ((8, 8), 64, (1, 1)),
        ((6, 2), 4, (3, 1)),
        ((4, 7), 4, (1, 7)),  # 7 rows each: no pass of 2, 3 or 4 divides them
        ((8, 3), 2, (6, 2)),  # 12 rows each: 6 is the largest divisor up to 8
    ],
)
def test_shares_worked_by_hand(
    named: tuple[int, int], processes: int, each: tuple[int, int]
) -> None:
    assert share_of_batch(*named, processes) == each


@given(sizes, sizes, sizes)
def test_all_processes_together_make_the_batch_in_passes_that_fit(
    per_device: int, accumulation: int, processes: int
) -> None:
    batch = per_device * accumulation
    if batch % processes:
        with pytest.raises(RecipeError):
            share_of_batch(per_device, accumulation, processes)
        return
    rows, passes = share_of_batch(per_device, accumulation, processes)
    assert rows * passes * processes == batch
    assert 1 <= rows <= per_device
    larger = range(rows + 1, per_device + 1)
    assert not [one for one in larger if (batch // processes) % one == 0]


def test_what_cannot_be_shared_is_told_with_both_numbers_and_what_would_do() -> None:
    with pytest.raises(RecipeError) as error:
        share_of_batch(8, 3, 7)
    for part in ("batch of 24 rows", "8 × gradient_accumulation_steps 3", "among 7", "Take 6"):
        assert part in str(error.value)


@given(st.integers(1, 200), st.integers(1, 200))
def test_no_more_of_the_workers_could_train(batch: int, workers: int) -> None:
    found = most_processes(batch, workers)
    assert found <= workers and batch % found == 0
    assert not [one for one in range(found + 1, workers + 1) if batch % one == 0]


def test_all_trainings_that_cannot_be_shared_are_named_at_once() -> None:
    def batch(rows: int) -> dict[str, Any]:
        return {"per_device_train_batch_size": rows}

    recipe = small_recipe(warmup=batch(6), distill=batch(9), cut={"keep_layers": [0], **batch(6)})
    require_shares(recipe, 3)
    with pytest.raises(RecipeError, match=r"^warmup and cut: a batch of 6 .*; distill: .* of 9 "):
        require_shares(recipe, 4)
    require_shares(small_recipe(warmup=batch(4), distill=batch(8)), 4)
    unhealed = {"keep_layers": [0], "heal": False, **batch(7)}
    require_shares(small_recipe(warmup=batch(4), distill=batch(8), cut=unhealed), 4)
