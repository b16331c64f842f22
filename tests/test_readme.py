"""The README and the cluster files say what is there: commands, options, files, modules."""

from __future__ import annotations

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from raystt.cli import main
from raystt.config import load_run, load_search

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.partition("#")[0].strip()
]
VERBS = ["prepare", "check", "train", "search", "evaluate", "translate", "report", "dashboard"]


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make quickstart", "make test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command


def test_every_verb_is_shown() -> None:
    shown = [command.split()[1] for command in COMMANDS if command.startswith("raystt ")]
    assert sorted(shown) == sorted(VERBS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("raystt ")])
def test_verbs_and_their_options_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, verb, *arguments = shlex.split(command)
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for argument in arguments:
        if argument.startswith("--"):
            assert argument in shown, f"{command}: {verb} has no {argument}"


@pytest.mark.parametrize("command", COMMANDS)
def test_files_in_commands_exist(command: str) -> None:
    for word in shlex.split(command):
        if re.match(r"(search_spaces|cluster|docs)/", word):
            assert (ROOT / word).is_file(), f"{command}: there is no {word}"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_configs_shown_are_valid(tmp_path: Path) -> None:
    search, recordings = [block for language, block in BLOCKS if language == "yaml"]
    (tmp_path / "mine.yaml").write_text(search)
    assert load_search(tmp_path / "mine.yaml").name == "mine"
    (tmp_path / "run.yaml").write_text(f"name: mine\n{recordings}")
    assert load_run(tmp_path / "run.yaml").corpus.reader == "manifest"


def test_every_module_has_a_line() -> None:
    text = (ROOT / "docs/modules.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^- `(raystt/\S+\.py)`: \S", text, re.MULTILINE))
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "raystt").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules - listed == set(), "without a line in docs/modules.md"
    assert listed - modules == set(), "in docs/modules.md, but not there"


def test_the_cluster_file_is_one_that_ray_takes() -> None:
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    schema = json.loads(
        Path(spec.origin).with_name("autoscaler").joinpath("ray-schema.json").read_text()
    )
    jsonschema.validate(yaml.safe_load((ROOT / "cluster/machines.yaml").read_text()), schema)


def test_constraints_are_exact_versions_without_addresses() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line), line
