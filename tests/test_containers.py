"""What containers are made of agrees with the pages; nothing is built here."""

import re
import shlex
import tomllib
from pathlib import Path

import yaml

from warmup_distill.recipe.engine import EngineSection

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def flags(command: str) -> list[str]:
    """A server's words but for its model, dtype and port."""
    words = shlex.split(re.sub(r"\$\{[^}]*\}", "X", command).replace("\\\n", " "))
    return sorted(set(words) - {"vllm", "serve", "X", "STUDENT", "TEACHER", "float32"})


def test_the_servers_of_the_compose_file_have_the_flags_of_the_page() -> None:
    page = (ROOT / "docs" / "vllm.md").read_text(encoding="utf-8")
    documented = re.findall(
        r"^vllm serve (?:STUDENT|TEACHER) (?:.*\\\n)*.*$", page, flags=re.MULTILINE
    )
    assert len(documented) == 2
    services = [COMPOSE["services"][role]["command"] for role in ("student", "teacher")]
    assert [flags(command) for command in services] == [flags(command) for command in documented]


def test_the_compose_file_s_example_asks_the_servers_that_it_starts() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    example = re.search(r'--set "rollouts\.engine=(\{.*?\})"', text, flags=re.DOTALL)
    assert example
    engine = yaml.safe_load(re.sub(r"\\\n#\s*", "", example[1]))
    found = EngineSection.model_validate(engine)
    for role, address in (("student", found.student), ("teacher", found.teacher)):
        port = re.search(r"--port (\d+)", COMPOSE["services"][role]["command"])
        assert port and str(address) == f"http://{role}:{port[1]}"


def test_no_container_opens_a_port_to_others_or_runs_the_program_as_root() -> None:
    assert all("ports" not in service for service in COMPOSE["services"].values())
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert users and users[-1] not in ("root", "0")


def test_the_image_installs_extras_that_exist_and_copies_all_that_the_build_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.search(r'"\.\[([a-z0-9,]+)\]"', DOCKERFILE)
    assert extras and {"ray", "vllm"} <= set(extras[1].split(","))
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in ("pyproject.toml", project["readme"], *project["license-files"], "src"):
        assert f"!{name}" in ignored and re.search(rf"^COPY .*\b{re.escape(name)}\b", DOCKERFILE,
                                                   flags=re.MULTILINE)  # fmt: skip
