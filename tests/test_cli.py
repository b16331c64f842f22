"""The command line: exit codes, help, and what reaches the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny import tiny_search

from raystt.cli import main
from raystt.config import to_yaml


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(to_yaml(tiny_search(tmp_path)))
    return path


@pytest.mark.parametrize("verb", ["prepare", "check", "train", "search", "evaluate", "report"])
def test_help_says_what_a_verb_does(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    usage, said, *_ = text.split("\n\n")
    assert f"raystt {verb} [-h]" in usage and "--json" in usage and said.endswith(".")
    (options,) = [part for part in text.split("\n\n") if part.startswith("options:")]
    for option in re.split(r"\n  (?=-)", options)[1:]:
        assert re.search(r"\S\s{2,}\w", option), f"nothing is said of {option}"


def test_check_prints_a_report(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(space)]) == 0
    assert "trials" in capsys.readouterr().out
    assert main(["check", str(space), "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_bad_input_is_exit_code_2(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space.write_text(space.read_text().replace("trials:", "trails:"))
    for verb in ("check", "search", "prepare"):
        assert main([verb, str(space)]) == 2
        error = capsys.readouterr().err
        assert str(space) in error and "trails" in error and "trials" in error
        assert "Traceback" not in error


def test_errors_are_json_where_json_is_asked_for(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = space.read_text()
    for config, key in (
        (text.replace("trials:", "trails:"), "trails"),
        (text.replace("storage: ", f"storage: {space}/"), "base.storage"),
    ):
        space.write_text(config)
        assert main(["check", str(space), "--json"]) == 2
        data = json.loads(capsys.readouterr().out)
        assert key in [problem["key"] for problem in data["problems"]]
        assert key in data["error"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["search", "absent.yaml"], "absent.yaml"),
        (["report", "absent"], "config.yaml"),
        (["prepare", "absent.yaml"], "absent.yaml"),
    ],
)
def test_missing_files_are_bad_input(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


def test_a_model_that_is_not_there_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_search(tmp_path).run_for("es", {})
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(run))
    assert main(["evaluate", str(path)]) == 2
    assert "train the run first" in capsys.readouterr().err
