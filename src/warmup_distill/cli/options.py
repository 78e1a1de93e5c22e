"""What commands share: their options, and the names that options take."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmup_distill.errors import RunError

if TYPE_CHECKING:
    from warmup_distill.recipe.cluster import ClusterSection
    from warmup_distill.suites.serving import Server

MOST = 2**31 - 1  # of anything that is counted
RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field: rollouts.num_samples=4"),
]
OutputDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run directory; runs/<recipe name> if absent.")
]
Redo = Annotated[
    bool,
    typer.Option("--redo", help="Follow a recipe that has changed: do again what depends on it."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Share the work among N processes (Ray)."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="auto|HOST:PORT",
        help="A Ray cluster that is there; without it --workers starts Ray on this machine.",
    ),
]


class ExportTarget(StrEnum):
    """Programs whose format `export` writes."""

    TRL = "trl"
    OPENRLHF = "openrlhf"
    LLAMA_FACTORY = "llama-factory"


class MetricName(StrEnum):
    """What `score` can compute; a test holds it to `scoring.metrics.METRICS`."""

    ROUGE_L = "rouge_l"
    EXACT_MATCH = "exact_match"
    GSM8K_STRICT = "gsm8k_strict"
    GSM8K_FLEXIBLE = "gsm8k_flexible"
    BOXED = "boxed"
    BOXED_QWEN = "boxed_qwen"
    MATH_VERIFY = "math_verify"
    MATH_STRING = "math_string"


class ProfileName(StrEnum):
    """The profiles of `evaluate`; a test holds it to `suites.profiles.PROFILES`."""

    PAPER = "paper"
    CLEAN = "clean"


class DTypeName(StrEnum):
    """What weights can be loaded as."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def cluster_overrides(workers: int | None, ray_address: str | None) -> list[str]:
    """What the options say of workers, as overrides of the recipe."""
    given = {"cluster.num_workers": workers, "cluster.address": ray_address}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def cluster_alone(workers: int | None, ray_address: str | None) -> "ClusterSection | None":
    """What the options say of workers, where there is no recipe."""
    from warmup_distill.recipe.cluster import ClusterSection

    if workers is None and ray_address is None:
        return None
    if workers is None:
        raise RunError("--ray-address names a cluster; say with --workers how many work there.")
    return ClusterSection(num_workers=workers, address=ray_address or "local")


def server_at(url: str | None, model: str | None, key_env: str | None) -> "Server | None":
    """What the options say of a server."""
    from warmup_distill.suites.serving import Server

    if url is None:
        if model or key_env:
            raise RunError("--server-model and --api-key-env have no effect without --server URL.")
        return None
    return Server(url=url, model=model, key_env=key_env)


def run_directory(recipe: Path, output_dir: Path | None) -> Path:
    if output_dir is None and recipe.name == "recipe.yaml":
        return recipe.parent  # the resolved recipe inside a run directory
    return output_dir or Path("runs") / recipe.stem


def require_fitting_options(
    suite: str | None, *, for_suites: dict[str, object], for_stages: dict[str, object]
) -> None:
    """An option that would have no effect is a mistake."""
    useless = for_suites if suite is None else for_stages
    for name, value in useless.items():
        if value:
            raise RunError(
                f"{name} has no effect here: it belongs to `evaluate` "
                + ("with --suite." if suite is None else "of a recipe, without --suite.")
            )
