"""A run's directory: one search, one driver, one config."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from made import result
from tiny import tiny_search

import raystt
from raystt.config import ConfigError
from raystt.searching.claim import RunExists, claimed
from raystt.searching.directory import NoRun, RunDirectory


def open_directory(tmp_path: Path, resume: bool = False, overwrite: bool = False, **changes):
    return claimed(tiny_search(tmp_path, **changes), resume=resume, overwrite=overwrite)


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with open_directory(tmp_path), pytest.raises(RunExists, match="running in this directory"):
        open_directory(tmp_path, resume=True).__enter__()
    with open_directory(tmp_path, resume=True):
        pass


def test_an_unfinished_search_is_not_started_over(tmp_path: Path) -> None:
    with open_directory(tmp_path) as directory:
        (directory.path / "states" / "kept").mkdir()
    with pytest.raises(RunExists, match="--resume"), open_directory(tmp_path):
        pass
    with open_directory(tmp_path, resume=True) as directory:
        assert (directory.path / "states" / "kept").exists()
    with open_directory(tmp_path, overwrite=True) as directory:
        assert os.listdir(directory.path / "states") == []


def test_what_a_kill_left_half_written_goes_with_the_next_session(tmp_path: Path) -> None:
    with claimed(tiny_search(tmp_path), resume=False, overwrite=False) as directory:
        dead, alive = 2**22 + 1, os.getppid()  # no process has a number above 2**22
        left = [
            directory.report / f".index.html.{dead}.tmp",
            directory.trials / "es-000" / f".a.{dead}.tmp",
            directory.report / ".notes.tmp",
            directory.report / f".table.md.{alive}.tmp",
        ]
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("<html>")
    with claimed(tiny_search(tmp_path), resume=True, overwrite=False):
        assert [path.exists() for path in left] == [False, False, False, True]


def test_a_search_that_only_prepared_its_corpus_may_still_change(tmp_path: Path) -> None:
    with open_directory(tmp_path):
        pass
    with open_directory(tmp_path, seed=2) as directory:
        assert "seed: 2" in directory.config.read_text()
        assert directory.load_config().seed == 2


def test_a_changed_search_is_not_resumed(tmp_path: Path) -> None:
    with open_directory(tmp_path) as directory:
        directory.journal.touch()
    changed = open_directory(tmp_path, resume=True, seed=2)
    with pytest.raises(RunExists, match=r"config\.yaml.*\(seed: 1 there, 2 asked\)"), changed:
        pass
    with open_directory(tmp_path, resume=True, trials=8) as directory:
        assert "trials: 8" in directory.config.read_text()


def test_what_decides_no_score_may_change(tmp_path: Path) -> None:
    with open_directory(tmp_path) as directory:
        directory.journal.touch()
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["training"]["log_every"] = 7
    base["resources"]["trainers"] = 5
    changes = {"base": base, "keep": "all", "tracking": ["mlflow"]}
    with open_directory(tmp_path, resume=True, **changes) as directory:
        assert directory.load_config().base.training.log_every == 7


def test_a_run_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    with open_directory(tmp_path) as directory:
        (directory.path / "run.json").unlink()
    with pytest.raises(NoRun, match="another version of raystt .*--overwrite"):
        RunDirectory(directory.path).load_config()
    with pytest.raises(NoRun), open_directory(tmp_path, resume=True):
        pass
    with open_directory(tmp_path, overwrite=True):
        pass


def test_states_that_nobody_keeps_are_pruned(tmp_path: Path) -> None:
    with open_directory(tmp_path) as directory:
        for name in ("a1", "a2", "b1", "shared", "running"):
            (directory.states / name).mkdir()
        kept = result(0, 9.0, states=("a1", "a2"))
        over = [kept, result(1, 5.0, states=("b1",)), result(2, 5.0, states=("a2",))]
        directory.prune([kept], over)
        assert sorted(os.listdir(directory.states)) == ["a2", "running", "shared"]


def test_a_finished_search_is_run_again_to_overwrite_it(tmp_path: Path) -> None:
    """It is checked like any other, before anything is deleted."""
    search = tiny_search(tmp_path)
    few = search.base.resources.model_copy(update={"trainers": 99})
    search = search.model_copy(update={"base": search.base.model_copy(update={"resources": few})})
    done = {"trials": search.total_trials, "confirm": {**search.confirm.model_dump(), "missing": 0}}
    with claimed(search, resume=False, overwrite=False) as directory:
        directory.summary.write_text(json.dumps(done))
    with pytest.raises(ConfigError, match="99 trainers"):
        raystt.search(search, overwrite=True, progress=False)
    assert directory.summary.exists()
