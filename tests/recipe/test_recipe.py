"""The recipe: every fault is named, nothing unknown passes, and what is saved loads again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from warmup_distill.errors import RecipeError
from warmup_distill.recipe import Recipe
from warmup_distill.recipe.reading import dump_recipe, load_recipe

ROOT = Path(__file__).parents[2]

MINIMAL = """
teacher: bundled:teacher
student: bundled:student
prompts: {dataset: "bundled:problems", limit: 10}
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.rollouts.num_samples == 8
    assert recipe.rollouts.margin_threshold == 4.0


def test_the_paper_s_numbers_are_the_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL)
    assert (recipe.rollouts.num_samples, recipe.rollouts.margin_threshold) == (8, 4.0)
    assert (recipe.rollouts.temperature, recipe.warmup.beta) == (1.0, 0.1)


def test_what_is_saved_loads_as_the_same_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL, "rollouts.margin_threshold=2.5", "warmup.lora={r: 4}")
    assert load(tmp_path, dump_recipe(recipe)) == recipe


def test_overrides_are_yaml_and_reach_any_depth(tmp_path: Path) -> None:
    recipe = load(tmp_path, MINIMAL, "rollouts.num_samples=3", "warmup.learning_rate=1e-5")
    assert (recipe.rollouts.num_samples, recipe.warmup.learning_rate) == (3, 1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rollout: {}", "rollout: unknown key; did you mean rollouts?"),
        ("rollouts: {num_sample: 3}", r"num_sample: unknown key; did you mean num_samples\?"),
        ("warmup: {lora: {rank: 3}}", "warmup.lora.rank: unknown key; known keys: r, lora_alpha"),
        ("rollouts: {num_samples: many}", "rollouts.num_samples: .*integer.*'many'"),
        ("rollouts: {num_samples: 0}", "rollouts.num_samples: .*greater than or equal to 1"),
        ("rollouts: {margin_threshold: 0}", "margin_threshold: .*greater than 0, got 0"),
        ("rollouts: {margin_threshold: -1}", "margin_threshold: .*greater than 0"),
        ("rollouts: {margin_threshold: .nan}", "margin_threshold: .*finite"),
        ("warmup: {beta: 0}", "warmup.beta: .*greater than 0"),
        (
            "distill: {objective: kl}",
            "distill.objective: .*'forward_kl', 'reverse_kl', .* or 'sft'",
        ),
        ("distill: {objective: sft, temperature: 2}", "would have no effect"),
        ("distill: {objective: reverse_kl, teacher_signal: top_k}", "unstable"),
        ("distill: {objective: sft, teacher_signal: hidden}", "no effect on objective `sft`"),
        (
            "distill: {options: {skew: 0.2}}",
            "`options.skew` has no effect on the objective `forward",
        ),
        ("distill: {objective: taid, options: {t_strat: 0.2}}", "did you mean t_start?"),
        ("distill: {temperature_squared: true}", "no effect at `temperature: 1`"),
        ("distill: {completions: {temperature: 0.5}}", "no effect on references"),
        (
            "distill: {completions: {student_share: 1, adaptive: {}}}",
            "leave out `student_share`",
        ),
        (
            "distill: {completions: {student_share: 1}, teacher_signal: hidden}",
            "take `teacher_signal: live`",
        ),
        ("warmup: {loss: hinge, label_smoothing: 0.1}", "no effect on the loss `hinge`"),
        ("warmup: {gamma: 0.5}", "no effect on the loss `sigmoid`"),
        ("cut: {keep_layers: [3, 1]}", "ascending"),
        ("seed: 1\nseed: 2", "'seed' is given twice"),
        ("evaluate: {benchmarks: [{name: ../x, file: a}]}", "benchmarks.0.name"),
    ],
)
def test_each_fault_has_a_message_that_names_it(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, MINIMAL + line)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, MINIMAL + "rollouts: {num_samples: 0, temprature: 1}\nwarmup: {beta: 0}")
    assert str(caught.value).count("\n") == 3


def test_an_override_reaches_into_a_list_by_number(tmp_path: Path) -> None:
    benchmarks = "evaluate: {benchmarks: [{name: a, file: x, answer_column: y}]}\n"
    recipe = load(tmp_path, MINIMAL + benchmarks, "evaluate.benchmarks.0.file=mine.jsonl")
    assert recipe.evaluate.benchmarks[0].file == Path("mine.jsonl")
    for wrong in ("1", "-1", "x"):
        with pytest.raises(RecipeError, match=r"from 0 to 0"):
            load(tmp_path, MINIMAL + benchmarks, f"evaluate.benchmarks.{wrong}.file=mine.jsonl")


@pytest.mark.parametrize("override", ["rollouts.num_samples", "=3", "teacher.x=1"])
def test_an_override_that_is_none_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match=r"--set"):
        load(tmp_path, MINIMAL, override)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "!!python/object/apply:os.getcwd []", "\x00"])
def test_what_is_no_recipe_is_refused_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError):
        load(tmp_path, text)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nowhere.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_references_are_required_for_distillation(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="prompts.reference_column is required"):
        load(tmp_path, "teacher: a\nstudent: b\nprompts: {file: x.jsonl}")


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail_in_another_way(text: str) -> None:
    path = Path(__file__).with_name(".fuzz.yaml")
    try:
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        load_recipe(path)
    except RecipeError:
        pass
    finally:
        path.unlink(missing_ok=True)


def _fields(model: type[BaseModel]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, field in model.model_fields.items():
        found.append((f"{model.__name__}.{name}", field))
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found += _fields(part)
    return found


def test_every_field_says_what_it_is_and_every_number_its_unit() -> None:
    sections = {"teacher", "student", "seed", "dtype", "control"}
    for name, field in _fields(Recipe):
        annotation = str(field.annotation)  # type: ignore[attr-defined]
        if "warmup_distill.recipe" in annotation and name.split(".")[1] not in sections:
            continue  # a section: its own docstring says what it is
        assert field.description, f"{name} has no description"  # type: ignore[attr-defined]
        if ("int" in annotation or "float" in annotation) and "list" not in annotation:
            if "bool" in annotation or "Literal" in annotation:
                continue
            assert (field.json_schema_extra or {}).get("unit"), f"{name} has no unit"  # type: ignore[attr-defined]
