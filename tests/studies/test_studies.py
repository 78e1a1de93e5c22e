"""A study is its runs, each as if it had been run alone, and nothing is made twice."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from warmup_distill.cluster.places import Here
from warmup_distill.errors import RecipeError
from warmup_distill.pipeline import run
from warmup_distill.records import Rollout
from warmup_distill.store.artifacts import read_parts
from warmup_distill.store.hashing import sha256
from warmup_distill.studies.running import folder_of, run_all
from warmup_distill.studies.settings import Study, load_study

RECIPE: dict[str, Any] = {
    "teacher": "bundled:teacher",
    "student": "bundled:student",
    "control": True,
    "prompts": {"dataset": "bundled:problems", "limit": 12},
    "rollouts": {"num_samples": 2, "max_new_tokens": 32, "prompts_per_part": 4},
    "warmup": {"per_device_train_batch_size": 8, "watch": {"prompts": 0}},
    "distill": {"max_steps": 1, "per_device_train_batch_size": 4, "max_length": 128},
    "evaluate": {
        "benchmarks": [
            {"name": "problems", "dataset": "bundled:problems", "split": "test", "limit": 4}
        ]
    },
}


def written(folder: Path, **study: Any) -> Path:
    (folder / "base.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    path = folder / "trial.yaml"
    path.write_text(
        yaml.safe_dump({"recipe": "base.yaml"} | study, sort_keys=False), encoding="utf-8"
    )
    return path


def names(study: Study) -> list[str]:
    return [one.name for one in study.runs]


def test_every_combination_is_run_with_every_seed(tmp_path: Path) -> None:
    grid = {"warmup.beta": [0.5, 2.0], "distill.max_steps": [1, 2]}
    study = load_study(written(tmp_path, grid=grid, seeds=[0, 42]))
    assert names(study) == [
        "beta=0.5,max_steps=1,seed=0", "beta=0.5,max_steps=1,seed=42",
        "beta=0.5,max_steps=2,seed=0", "beta=0.5,max_steps=2,seed=42",
        "beta=2.0,max_steps=1,seed=0", "beta=2.0,max_steps=1,seed=42",
        "beta=2.0,max_steps=2,seed=0", "beta=2.0,max_steps=2,seed=42",
    ]  # fmt: skip
    last = study.runs[-1].recipe
    assert (last.warmup.beta, last.distill.max_steps, last.seed) == (2.0, 2, 42)


def test_settings_have_names_and_several_fields(tmp_path: Path) -> None:
    settings = {"few": {"prompts.limit": 2}, "many": {"prompts.limit": 4, "warmup.beta": 3.0}}
    study = load_study(written(tmp_path, settings=settings, until="pairs"))
    assert names(study) == ["few,seed=0", "many,seed=0"]
    assert [one.recipe.prompts.limit for one in study.runs] == [2, 4]
    assert study.runs[1].recipe.warmup.beta == 3.0
    assert study.runs[0].stages == ("prompts", "rollouts", "pairs")


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({"grid": {"warmup.beta": []}}, "grid.warmup.beta` has no values"),
        ({"grid": {"warmup.beta": [1.0, 1.0]}}, "has a value twice"),
        ({"grid": {"warmup.bta": [1.0]}}, "warmup.bta: unknown key; did you mean beta?"),
        ({"grid": {"seed": [1, 2]}}, "give `seeds`"),
        ({"seeds": [1, 1]}, "one of them twice"),
        ({"seeds": []}, "seeds"),
        ({"set": {"warmup.beta": 1.0}, "grid": {"warmup.beta": [2.0]}}, "elsewhere too"),
        ({"grid": {"cluster.num_workers": [1, 2]}}, "`cluster` is the same for all"),
        ({"until": "teatime"}, "until: expected one of prompts"),
        ({"recipes": 3}, "recipes: unknown key; did you mean recipe?"),
        ({"grid": {"warmup.beta": [*range(1, 200)], "distill.max_steps": [*range(1, 200)]}},
         "these are 39,601"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_meant_is_refused(
    tmp_path: Path, study: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said.replace("?", "[?]").replace("`", "`")):
        load_study(written(tmp_path, **study))


def test_runs_have_folders_of_their_own_whatever_varies(tmp_path: Path) -> None:
    grid = {"distill.options.alpha": [-1.0, 1.0]}
    settings = {"<10": {"prompts.limit": 9}, ">10": {"prompts.limit": 11}, "短": {}, "長": {}}
    changed = {"distill.objective": "alpha_beta"}
    study = load_study(written(tmp_path, grid=grid, settings=settings, set=changed))
    assert len({one.casefold() for one in names(study)}) == 8
    assert all(one.isascii() and len(one) < 130 for one in names(study))
    long = {"prompts.system": ["a" * 300, "a" * 300 + "b"]}
    both = names(load_study(written(tmp_path, grid=long)))
    assert len(set(both)) == 2 and max(map(len, both)) <= 120


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(
        "recipe: base.yaml\ngrid: {warmup.learning_rate: [1e-6, 3.0e-6]}\n", encoding="utf-8"
    )
    rates = [one.setting["warmup.learning_rate"] for one in load_study(path).runs]
    assert rates == [1e-6, 3e-6]


def hashes(folder: Path) -> dict[str, str]:
    kinds = ("*.parquet", "*.safetensors", "evaluate/*/*.json")
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for kind in kinds
        for path in folder.rglob(kind)
    }


def samples(folder: Path) -> list[list[int]]:
    return [one.completion_ids for one in read_parts(folder / "rollouts", Rollout)]


def test_runs_share_what_is_the_same_and_are_as_if_run_alone(tmp_path: Path) -> None:
    grid = {"rollouts.margin_threshold": [4.0, 1.0], "distill.max_steps": [1, 2]}
    study = load_study(written(tmp_path, grid=grid))
    folder = tmp_path / "study"
    folder.mkdir()
    assert run_all(study, folder, Here(), lambda one: None) == {}
    first, longer, other, last = (folder_of(folder, one) for one in study.runs)

    def same(name: str, *runs: Path) -> bool:
        return len({(one / name).stat().st_ino for one in runs}) == 1

    assert same("warmup/model.safetensors", first, longer)
    assert same("rollouts/part-00000.parquet", first, longer)
    assert same("evaluate/student/problems.json", first, longer)
    assert same("control/model.safetensors", longer, last)
    assert not same("rollouts/part-00000.parquet", first, other)
    alone = run(study.runs[1].recipe, tmp_path / "alone")
    assert hashes(longer) == hashes(alone)
    assert samples(other) == samples(first)  # drawn once, and checked again


def test_a_run_that_fails_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    settings = {"wrong": {"student": "nowhere"}, "right": {}}
    study = load_study(written(tmp_path, settings=settings, until="prompts"))
    folder = tmp_path / "study"
    folder.mkdir()
    ended: list[list[str]] = []
    failures = run_all(study, folder, Here(), lambda known: ended.append(list(known)))
    assert list(failures) == ["wrong,seed=0"]
    assert "nowhere" in failures["wrong,seed=0"]
    assert ended == [["wrong,seed=0"], ["wrong,seed=0"]]
    assert (folder_of(folder, study.runs[1]) / "prompts").is_dir()


@pytest.mark.parametrize(
    ("name", "runs", "last"),
    [("ablation", 27, "report"), ("compute", 15, "report"), ("dpo", 48, "warmup"),
     ("eta", 12, "pairs")],
)  # fmt: skip
def test_every_shipped_study_loads(name: str, runs: int, last: str) -> None:
    study = load_study(Path(__file__).parents[2] / "studies" / f"{name}.yaml")
    assert len(study.runs) == runs and all(one.stages[-1] == last for one in study.runs)
    assert all(one.recipe.teacher == "bundled:teacher" for one in study.runs)
