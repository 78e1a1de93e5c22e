"""The architecture, enforced: a file imports only from its own floor or floors below it."""

import ast
from pathlib import Path

import warmup_distill

PACKAGE = Path(warmup_distill.__file__).parent

FLOORS = {
    "words": {"errors", "records", "config"},
    "tools": {
        "artifacts", "bundled", "chat", "drawing", "engines", "environment", "fingerprints",
        "limits", "locking", "losses", "mismatch", "models", "page", "pairing",
        "prompting", "randomness", "recipe", "scoring", "session", "sources", "stopping",
        "suites", "training", "tree", "vocabulary",
    },
    "stages": {"stages"},
    "doors": {
        "__init__", "__main__", "api", "cli", "commands", "evaluation", "exporting",
        "manifest", "pipeline", "planning",
    },
}  # fmt: skip
ORDER = list(FLOORS)
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}


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
    assert {room(path) for path in PACKAGE.rglob("*.py")} == set(FLOOR_OF)


def test_imports_point_downwards() -> None:
    for path in PACKAGE.rglob("*.py"):
        here = ORDER.index(FLOOR_OF[room(path)])
        for module in imported_modules(path):
            there = ORDER.index(FLOOR_OF[module.split(".")[0]])
            assert there <= here, f"{path.relative_to(PACKAGE)} imports {module} from above"


def test_no_stage_imports_another_stage() -> None:
    for path in (PACKAGE / "stages").glob("*.py"):
        assert not [m for m in imported_modules(path) if m.startswith("stages")], path.name


def test_every_public_name_exists() -> None:
    for name in warmup_distill.__all__:
        assert getattr(warmup_distill, name) is not None
