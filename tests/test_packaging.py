"""What a wheel carries, and that the facts beside the code agree with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What is asked for: `name[extra]>=1; marker` begins with its name.
NAME = re.compile(r"[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build from a copy: a build leaves files beside its sources. Needs no network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("raystt", "search_spaces"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
               "--no-index", "--wheel-dir", str(out), str(source)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {
        path.relative_to(ROOT).as_posix()
        for suffix in (".py", ".pyi")
        for path in (ROOT / "raystt").rglob(f"*{suffix}")
    }
    assert modules | {"raystt/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.slow
def test_the_wheel_holds_the_search_spaces(wheel: zipfile.ZipFile) -> None:
    shipped = {path.name: path.read_bytes() for path in (ROOT / "search_spaces").glob("*.yaml")}
    assert "quickstart.yaml" in shipped
    for name, content in shipped.items():
        assert wheel.read(f"raystt/search_spaces/{name}") == content


@pytest.mark.slow
def test_the_wheel_has_the_command_and_the_addresses(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert "raystt = raystt.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    addresses = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert {"Homepage", "Source", "Changelog"} == set(addresses)
    assert {"demo", "dev", "report", "mlflow", "wandb", "dashboard"} == set(
        metadata.get_all("Provides-Extra")
    )


def test_every_dependency_is_pinned() -> None:
    pins = [line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()]
    assert pins == sorted(pins, key=str.lower)
    asked = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    for requirement in asked:
        name = NAME.match(requirement)
        assert name is not None
        assert canonical(name[0]) in {*map(canonical, pins), "raystt"}, requirement


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
