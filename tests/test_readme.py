"""The README is short and starts with two commands; the list of modules is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make quickstart", "make test"]


def test_it_is_read_in_a_minute() -> None:
    assert len(README.splitlines()) < 120


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command


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


def test_constraints_are_exact_versions_without_addresses() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line), line
