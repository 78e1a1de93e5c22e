"""The documentation is true: generated pages are current and every path in the README exists."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_recipe_s_reference_is_current() -> None:
    path = ROOT / "scripts" / "recipe_reference.py"
    spec = importlib.util.spec_from_file_location("recipe_reference", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.recipe_reference()


def test_every_link_and_picture_in_the_pages_exists() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text):
            link = target[0] or target[1]
            if not link.startswith(("http:", "https:")):
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_file_of_the_package_is_in_the_readme_s_tree() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "warmup_distill").rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in tree, f"{path.name} is missing in the README's file tree"


def test_no_page_has_a_place_left_to_fill() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not re.fullmatch(r"[A-Z]{4,}\.?", line), f"{page.name}: {line}"
