"""Run directories of earlier versions stay those of their recipes."""

from typing import Any

import pytest

from warmup_distill.recipe import Recipe
from warmup_distill.store.fingerprints import fingerprints, following

BASE: dict[str, Any] = {
    "teacher": "t",
    "student": "s",
    "prompts": {"file": "rows.jsonl", "reference_column": "r", "answer_column": "a"},
    "evaluate": {"benchmarks": [{"name": "b", "file": "test.jsonl", "answer_column": "a"}]},
}
KNOWN = {"t": "1", "s": "2", "rows.jsonl": "3", "test.jsonl": "4"}

BEFORE = [
    ({}, {
        "prompts": "03266659d2bb86ba", "cut": "b74f78a8cdc1123d", "rollouts": "e308b750ef24a65e",
        "pairs": "9106ae62acf618cb", "warmup": "72eded63c28e9486", "distill": "9c5709810811f707",
        "control": "72e1cb5acfcd64d7", "evaluate": "90f04695cdc5e2db",
        "report": "9e1ec46e04bce8eb",
    }),
    ({"control": True, "cut": {"keep_layers": [0, 1]}}, {
        "prompts": "03266659d2bb86ba", "cut": "9adc47b1b66f6d3a", "rollouts": "61efef7bfde41f85",
        "pairs": "0d6e6a766c7222d4", "warmup": "0a3ed895a6c62485", "distill": "74d48409db7d6b75",
        "control": "f2b4a7322769aa06", "evaluate": "ddded8dc89783e34",
        "report": "a0e194dc7dd70bab",
    }),
]  # fmt: skip
"""What revision 6d6931c, before the ledger and the controls, made of two recipes."""


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(BASE | changes)


@pytest.mark.parametrize(("changes", "before"), BEFORE, ids=["plain", "with control and cut"])
def test_a_recipe_without_new_fields_has_the_fingerprints_that_it_had(
    changes: dict[str, Any], before: dict[str, str]
) -> None:
    found = fingerprints(recipe(**changes), KNOWN)
    assert {stage: found[stage] for stage in before} == before


def test_distilling_on_rollouts_depends_on_them() -> None:
    plain = recipe(control=True)
    rolled = recipe(control=True, distill={"completions": {"source": "rollouts"}})
    assert "control" not in following(["rollouts"], plain)
    assert {"distill", "control", "evaluate"} <= set(following(["rollouts"], rolled))
    settings = {"rollouts": {"margin_threshold": 2.0}}
    for one, same in ((plain, True), (rolled, False)):
        changed = recipe(**settings, control=True, distill=one.distill.model_dump())
        pair = [fingerprints(some, KNOWN)["control"] for some in (one, changed)]
        assert (pair[0] == pair[1]) is same
