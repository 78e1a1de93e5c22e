"""A run on workers: what is shared out, what bounds it, where that stops, and the page of it."""

import sys
from dataclasses import replace
from math import ceil, isclose
from pathlib import Path
from typing import Any

import paper
import pytest
from isolated import require_isolation, run
from test_run import small_recipe

from warmup_distill.cli.main import main
from warmup_distill.planning.bounds import bound, helps
from warmup_distill.planning.cluster_page import cluster_lines, short
from warmup_distill.planning.costs import Costs, Lengths
from warmup_distill.planning.estimates import memory
from warmup_distill.planning.limits import ASSUMED, operations
from warmup_distill.planning.measuring import Measured
from warmup_distill.planning.outlook import Outlook, Trouble, look_ahead, reached
from warmup_distill.planning.page import plan
from warmup_distill.planning.spread import READING, STARTING, Terms, fastest, spread, terms
from warmup_distill.planning.work import Parts, Steps, totals, work
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe

ONES = Costs(drawing=1, checking=10, continuing=100, teaching=7, pair=1000, row=10_000,
             pairs_per_prompt=2)  # fmt: skip
TERMS = Terms(
    loaded=dict.fromkeys(("rollouts", "warmup", "distill", "evaluate"), 0.0),
    gradients={"warmup": 4e9, "distill": 4e9},
    update={"warmup": 0.0, "distill": 0.0},
    link=100e9,
    network=10e9,
)


def paper_recipe(**changes: Any) -> Recipe:
    """The paper's numbers, with a cluster of eight H100."""
    training = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 8}
    values: dict[str, Any] = {
        "dtype": "bfloat16",
        "rollouts": {"max_new_tokens": 512, "batch_tokens": 65_536},
        "warmup": training | {"activation_checkpointing": True},
        "distill": training | {"num_train_epochs": 3, "activation_checkpointing": True},
        "cluster": {"num_workers": 8, "device": "h100", "price_per_hour": 2.0},
    }
    return small_recipe(**(values | changes))


def at_most(**changes: Any) -> Lengths:
    values = {"prompt": 90, "samples": 8, "completion": 512, "continuation": 512, "pair": 1114,
              "row": 250, "pairs_per_prompt": 8}  # fmt: skip
    return Lengths(**(values | changes))


def outlook(recipe: Recipe, measured: Measured | None = None) -> Outlook:
    return look_ahead(recipe, paper.facts(), at_most(), measured)


def test_parts_are_those_that_the_stages_make() -> None:
    recipe = small_recipe(
        rollouts={"num_samples": 4, "prompts_per_part": 5, "max_new_tokens": 20,
                  "batch_tokens": 100},
        warmup={"watch": {"prompts": 0}},
        distill={"completions": {"source": "teacher"}},
        evaluate={
            "samples": 3, "agreement_prompts": 2, "batch_tokens": 100,
            "benchmarks": [{"name": "b", "dataset": "bundled:problems", "limit": 7}],
        },
    )  # fmt: skip
    facts = replace(paper.facts(12, 10), benchmarks={"b": paper.prompts(7, 10)})
    found = work(recipe, facts, ONES, at_most())
    # 12 prompts in parts of 5, each prompt 4 times drawn, checked and continued
    assert found["rollouts"] == [Parts(costs=[111 * 4 * 5, 111 * 4 * 5, 111 * 4 * 2])]
    # the teacher draws 3 prompts of 30 tokens at once
    assert found["distill"][0] == Parts(costs=[7 * 3] * 4)
    assert isinstance(found["distill"][1], Steps)
    # of 4 models: greedy and sampled 3, 3, 1 prompts at once; two samples more of 10 + 40 tokens,
    # 2 prompts at once; then 2 prompts with 3 samples each are checked, 3 rows at once
    drawn = [3, 3, 1] * 2 + [2 * 2, 2 * 2, 2 * 2, 2 * 1]
    assert found["evaluate"] == [Parts(costs=drawn * 4), Parts(costs=[10 * 3, 10 * 3] * 4)]
    assert totals(recipe, facts, ONES, at_most())["evaluate"] == 4 * (28 + 60)


def test_steps_take_the_batch_that_the_recipe_names() -> None:
    recipe = paper_recipe()
    found = work(recipe, paper.facts(100), ONES, at_most())
    steps, watch = found["warmup"]
    assert steps == Steps(count=ceil(200 / 64), total=200 * 1000, batch=64)
    # a tenth of the prompts, before and after 4 steps, drawn and checked by one worker
    assert watch == Parts(costs=[11 * 10 * 2])
    assert found["distill"] == [Steps(count=ceil(300 / 64), total=300 * 10_000, batch=64)]


def test_controls_cost_what_they_are_held_against() -> None:
    asked = ["steps", "compute", "cold_start", "corrected"]
    recipe = paper_recipe(control=asked)
    counted = operations(recipe, paper.facts(), at_most())
    found = totals(recipe, paper.facts(), counted, at_most())
    with_warmup = found["rollouts"] + found["warmup"] + found["distill"]
    assert found["control_compute"] == pytest.approx(with_warmup)
    assert found["cold_start"] == pytest.approx(found["rollouts"] + found["warmup"])
    for stage in ("control", "control_cold_start", "control_corrected"):
        assert found[stage] == found["distill"]
    # where the distillation is on the rollouts, they are no part of what the warm-up adds
    section = recipe.distill.model_copy(
        update={"completions": recipe.distill.completions.model_copy(update={"source": "rollouts"})}
    )
    rolled = recipe.model_copy(update={"distill": section, "control": asked[:3]})
    found = totals(rolled, paper.facts(), counted, at_most())
    assert found["control_compute"] == pytest.approx(found["warmup"] + found["distill"])
    seconds = totals(recipe, paper.facts(), ONES, at_most())
    assert seconds["control_compute"] > seconds["distill"] == seconds["control"]


def test_a_stage_takes_its_pieces_one_after_the_other_and_starts_once() -> None:
    pieces = [Steps(count=10, total=80, batch=64), Parts(costs=[6, 6, 6])]
    training, parts = spread("warmup", pieces, 2, TERMS)
    # two processes: half of the compute, and ten exchanges of 4 GB at 100 GB/s
    assert isclose(training.wall, STARTING + 40 + 10 * 0.04)
    assert isclose(parts.wall, 12)


def test_a_batch_of_six_trains_on_three_of_four_workers() -> None:
    (found,) = spread("distill", [Steps(count=1, total=6, batch=6)], 4, TERMS)
    assert isclose(found.wall, STARTING + 2 + 2 * 2 / 3 * 0.04)


def test_beyond_one_machine_gradients_take_the_network() -> None:
    assert isclose(TERMS.exchange("warmup", 8), 2 * 7 / 8 * 4 / 100)
    assert isclose(TERMS.exchange("warmup", 16), 2 * 15 / 16 * 4 / 10)


def test_the_fastest_number_of_processes_is_that_of_all_that_were_tried() -> None:
    # per step: 0.8 s of compute among N, against exchanges of 0.08 at the most within a machine,
    # and of 0.75 beyond it
    assert fastest("warmup", Steps(count=10, total=8, batch=64), TERMS) == 8
    # 80 s of compute among N, against 0.8 beyond a machine: 80/64 + 0.79 is the least of all
    assert fastest("warmup", Steps(count=10, total=800, batch=64), TERMS) == 64
    # 0.01 s of compute: not worth sharing
    assert fastest("warmup", Steps(count=10, total=0.1, batch=64), TERMS) == 1


@pytest.mark.parametrize(
    ("piece", "workers", "said", "more"),
    [
        (Parts(costs=[100] * 16), 4, "sampled", "16: its parts"),
        (Parts(costs=[100] * 16), 20, "its longest part; 4 workers have none", "16: its parts"),
        (Parts(costs=[100] * 5), 4, "the busiest worker, with 2 of 5 parts", "5: its parts"),
        (Parts(costs=[0.1] * 16), 4, "the start of the workers", "16: its parts"),
        (Steps(count=10, total=800, batch=64), 8, "operations (99% of a step)",
         "64: the rows of its batch"),
        (Steps(count=100, total=80, batch=64), 16,
         "the exchange of gradients (94% of a step)", "8: then the exchange of gradients"),
        (Steps(count=1000, total=4000, batch=64), 100,
         "the exchange of gradients (93% of a step of 64 workers)", "8: then"),
    ],
)  # fmt: skip
def test_what_bounds_a_stage_is_named(
    piece: Parts | Steps, workers: int, said: str, more: str
) -> None:
    found = spread("distill", [piece], workers, TERMS)
    assert bound("distill", [piece], found, workers, TERMS, sampled="sampled") == said
    assert helps("distill", [piece], TERMS).startswith(more)


def test_examinations_that_take_longest_are_named() -> None:
    pieces = [Steps(count=10, total=80, batch=64), Parts(costs=[60])]
    found = spread("warmup", pieces, 8, TERMS)
    said = bound("warmup", pieces, found, 8, TERMS, sampled="")
    assert said == "the watch's examinations, which one worker makes"


def test_what_the_paper_moves() -> None:
    recipe = paper_recipe()
    assert recipe.cluster
    found = terms(recipe, paper.facts(), recipe.cluster, None, ASSUMED)
    # bfloat16: 15.2 GB and 3.1 GB; gradients of 1.54e9 numbers in float32; 100 Gbit/s
    assert found.loaded["rollouts"] == 2 * (7_615_616_512 + 1_543_714_304)
    assert found.loaded["evaluate"] == 2 * (7_615_616_512 + 4 * 1_543_714_304)
    assert found.gradients["warmup"] == 4 * 1_543_714_304
    assert found.network == found.link == 12.5e9 * 0.7
    assert isclose(found.startup("rollouts"), STARTING + 18.318_661_632e9 / READING)
    adapters = paper_recipe(warmup={"lora": {"r": 16}})
    assert adapters.cluster
    few = terms(adapters, paper.facts(), adapters.cluster, None, ASSUMED)
    # rank 16 in 28 layers: 18.5 M numbers, as peft counts them for this model
    assert 0.8 < few.gradients["warmup"] / 4 / 18_464_768 < 1.25


def test_the_papers_hours_on_eight_h100() -> None:
    found = outlook(paper_recipe())
    rollouts, *_ = found.stages(1)["rollouts"]
    # 30.6 M tokens: the student's at 113.8 rows of 346 tokens 2.5 ms a step, the teacher's 9.8 ms,
    # each at half of the bandwidth; and 4.4e17 operations to check at 0.6 of 989e12
    student = 30.6e6 / 113.8 * (3.09e9 + 113.8 * 346 * 28_672) / (3.35e12 / 2)
    teacher = 30.6e6 / 113.8 * (14.14e9 + 113.8 * 346 * 57_344) / (3.35e12 / 2)
    checked = 30.6e6 * (14.14e9 + 4 * 28 * 3584 * 346) / (0.6 * 989e12)
    read = 30.6e6 * 3.15e9 / (0.6 * 989e12)  # the student reads the continuations
    assert isclose(rollouts.wall, student + teacher + checked + read + 23, rel_tol=0.01)
    training = found.stages(8)["distill"][0].wall
    # 22,419 rows of 250 tokens, four passes of the student and one of the teacher, at 0.4
    compute = 22_419 * 250 * (4 * 3.11e9 + 14.19e9) / (0.4 * 989e12) / 8
    # 351 steps: 6.17 GB in a ring at 0.7 of 450 GB/s, and 43 GB of AdamW at 3.35 TB/s
    shared = 351 * (2 * 7 / 8 * 6.17 / 315 + 0.0129)
    assert isclose(training, compute + shared + STARTING + 18.3, rel_tol=0.02)


def test_more_workers_are_never_busier_and_price_is_that_of_their_hours() -> None:
    found = outlook(paper_recipe())
    busy = [found.efficiency(workers, found.wall(workers)) for workers in (1, 2, 4, 8, 64, 1024)]
    assert busy == sorted(busy, reverse=True) and 0.9 < busy[0] < 1
    assert isclose(found.price(8, 1800.0), 8 * 0.5 * 2.0)


def test_trouble_is_longer_and_the_same_each_time() -> None:
    found = outlook(paper_recipe())
    much = Trouble(stragglers=0.3, failures=0.2)
    wall, lost = found.troubled(8, much)
    assert (wall, lost) == found.troubled(8, much) and wall > found.wall(8) and lost > 8
    assert isclose(found.troubled(8, Trouble(stragglers=0, failures=0))[0], found.wall(8))
    text = "\n".join(cluster_lines(found, [8], much))
    assert "stops after cluster.max_failures (8): raise it" in text


def test_memory_of_what_is_trained_is_sharded_and_nothing_else() -> None:
    recipe, facts = paper_recipe(), paper.facts(100)
    whole, shared = memory(recipe, facts), memory(recipe, facts, sharded_over=8)
    assert shared["rollouts"] == whole["rollouts"]
    # weights, gradients and two moments in float32, an eighth of them; and whole for a while the
    # embedding of 233 M and two layers of 46.8 M
    saved = whole["warmup"] - shared["warmup"]
    numbers = 1_543_714_304
    layer = (numbers - 151_936 * 1536) / 28
    expected = 16 * numbers * 7 / 8 - 4 * (151_936 * 1536 + 2 * layer)
    assert isclose(saved, expected, rel_tol=1e-6)


def test_memory_is_that_of_shards_where_the_recipe_asks_for_them() -> None:
    plain, facts = paper_recipe(), paper.facts(100)
    distill = plain.distill.model_dump() | {"trainer": {"fsdp": True}}
    whole, shared = memory(plain, facts), memory(plain, facts, sharded_over=8)
    found = memory(paper_recipe(distill=distill), facts)
    assert found == whole | {name: shared[name] for name in ("distill", "control")}


MEASURED = Measured(
    costs=Costs(drawing=1.0, checking=2.0, pair=3.0, row=4.0, pairs_per_prompt=0.5),
    lengths=at_most(completion=100, continuation=30, pairs_per_prompt=0.5),
    device="CPU",
)


def test_what_was_measured_on_such_a_device_counts_as_it_is() -> None:
    found = outlook(paper_recipe(), replace(MEASURED, device="NVIDIA H100 80GB HBM3"))
    assert found.costs == MEASURED.costs
    known = reached(found)
    # 100 tokens of 113.8 rows: 2 x (1.54e9 + 113.8 x 140 x 14,336) bytes a step; and an eighth of
    # a prompt of 90 tokens is read
    step = 2 * (1_543_714_304 + 113.8 * 140 * 14_336) / 3.35e12
    assert isclose(known["sampling"], 100 * step / 113.8 + 90 / 8 * 3.1e9 / 989e12, rel_tol=0.01)
    assert set(known) == {"sampling", "checking", "warm-up", "distillation"}
    text = "\n".join(cluster_lines(found, [8], Trouble()))
    assert "of this device's limits: sampling 0.1%" in text and "those that were measured" in text


def test_what_was_measured_elsewhere_gives_its_lengths_alone() -> None:
    found = outlook(paper_recipe(), MEASURED)
    assert found.costs and found.costs != MEASURED.costs and reached(found) == {}
    assert found.tokens()["rollouts"] == 7473 * 8 * (100 + 100 + 30)
    unnamed = outlook(paper_recipe(cluster={"num_workers": 2}), MEASURED)
    assert unnamed.costs == MEASURED.costs
    text = "\n".join(cluster_lines(unnamed, [2], Trouble()))
    assert "2 like the one that was measured" in text and "measured on one worker" in text


def test_without_a_device_or_a_measurement_there_are_no_times() -> None:
    found = outlook(paper_recipe(cluster={"num_workers": 2}))
    text = "\n".join(cluster_lines(found, [2], Trouble()))
    assert "no times: name cluster.device, or add --measure" in text
    assert "59 parts" in text and "worker-hours" not in text and "busy" not in text


def test_a_dtype_that_the_devices_figures_are_not_for_is_told() -> None:
    for dtype, told in (("float32", True), ("bfloat16", False)):
        lines = cluster_lines(outlook(paper_recipe(dtype=dtype)), [8], Trouble())
        assert ("float32 is many times slower" in "\n".join(lines)) == told


@pytest.mark.parametrize(
    ("value", "said"), [(5.614e17, "561 P"), (6.12e7, "61.2 M"), (999, "999"), (1e20, "100 E")]
)
def test_large_numbers_in_three_digits(value: float, said: str) -> None:
    assert short(value) == said


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["warmup-distill", "plan", *arguments])
    try:
        main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(small_recipe()), encoding="utf-8")
    return str(path)


def test_the_command_plans_for_the_first_number_and_compares_all(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("warmup_distill.cluster.starting.find_spec", lambda name: object())
    fields = ("cluster.device=l40s", "cluster.price_per_hour=1.5")
    options = [part for field in fields for part in ("--set", field)]
    folder = ["--output-dir", str(tmp_path / "run")]
    said = command(monkeypatch, recipe, *folder, "--workers", "4,1,16", *options)
    page = capsys.readouterr().out
    assert said == 0 and not (tmp_path / "run").exists()
    assert "workers    4, each with one l40s (362 TFLOP/s, 0.86 TB/s, 48 GiB)" in page
    assert "l40s has 48.0 GiB" in page and ", price " in page
    rows = [line.split() for line in page.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("4", "1", "16")] == ["4", "1", "16"]


@pytest.mark.parametrize("given", ["", "0", "8,", "-1", "2,x", "99999999", "1.5"])
def test_numbers_of_workers_are_numbers(
    given: str, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, recipe, f"--workers={given}") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_what_a_cluster_lacks_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmup_distill.cluster.starting.find_spec", lambda name: None)
    page, problems = plan(small_recipe(cluster={"num_workers": 3}), tmp_path / "run", measured=True)
    assert "pip install 'warmup-distill[ray]'" in problems[0]
    assert problems[1].startswith("warmup and distill: a batch of 8 rows") and "3" in problems[1]
    assert len(problems) == 2 and "worker-hours" not in page


def test_measuring_is_done_on_a_worker(tmp_path: Path) -> None:
    require_isolation()
    changes: dict[str, Any] = {"evaluate": {"benchmarks": []}, "control": False}
    recipe = dump_recipe(small_recipe(**changes))
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    page = run("plan", "recipe.yaml", "--workers", "2", "--measure", folder=tmp_path)
    assert "of one worker: rollouts" in page and "2 like the one that was measured" in page
    rows = {row[0]: row for line in page.splitlines() if (row := line.split())}
    tokens = rows["rollouts"][rows["rollouts"].index("parts") + 1 :]
    unit = {"k": 1e3, "M": 1e6}[tokens[1]]
    # 48 completions of a few dozen tokens, drawn and checked: fewer than they may have
    assert 48 * 2 * 10 < float(tokens[0]) * unit < 48 * 3 * 64
    assert not (tmp_path / "runs").exists()
