"""The architecture, enforced: every room imports only from rooms below it, so none in a circle."""

import ast
from pathlib import Path

import warmup_distill

PACKAGE = Path(warmup_distill.__file__).parent

FLOORS = {
    "doors": [
        "__main__", "cli", "exporting", "studies", "tuning", "planning", "api", "pipeline",
        "__init__",
    ],
    "stages": ["stages"],
    "tools": [
        "page", "figures", "suites", "training", "scoring", "engines", "tree", "losses", "data",
        "ledger", "cluster", "models", "store",
    ],
    "words": ["recipe", "bundled", "records", "foreign", "errors"],
}  # fmt: skip
"""Rooms from the top of the house down; a room knows only those that stand after it."""

ROOMS = [room for rooms in FLOORS.values() for room in rooms]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Our own modules that a file imports, as dotted paths below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("warmup_distill."):
            found.add(str(node.module).removeprefix("warmup_distill."))
    return found


def test_every_file_has_a_room() -> None:
    assert {room(path) for path in PACKAGE.rglob("*.py")} == set(ROOMS)


def test_imports_point_downwards() -> None:
    for path in PACKAGE.rglob("*.py"):
        here = room(path)
        for there in {module.split(".")[0] for module in imported_modules(path)} - {here}:
            assert ROOMS.index(there) > ROOMS.index(here), (
                f"{path.relative_to(PACKAGE)} imports {there}, which stands above it"
            )


def test_no_stage_imports_another_stage() -> None:
    shared = {
        "stages.session", "stages.pairing", "stages.models_ahead", "stages.rows_ahead",
        "stages.evaluation", "stages.charging", "stages.distilling", "stages.budgets",
    }  # fmt: skip
    for path in (PACKAGE / "stages").glob("*.py"):
        stages = {m for m in imported_modules(path) if m.startswith("stages")} - shared
        assert not stages, path.name


def test_every_public_name_exists() -> None:
    for name in warmup_distill.__all__:
        assert getattr(warmup_distill, name) is not None
