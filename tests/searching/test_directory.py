"""A run's directory: one search, one driver, one config."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import tiny_search

from raystt.searching.directory import RunDirectory, RunExists


def open_directory(tmp_path: Path, resume: bool = False, overwrite: bool = False, **changes):
    return RunDirectory(tiny_search(tmp_path, **changes), resume=resume, overwrite=overwrite)


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with open_directory(tmp_path), pytest.raises(RunExists, match="running in this directory"):
        open_directory(tmp_path, resume=True)
    open_directory(tmp_path, resume=True).__exit__(None, None, None)


def test_an_unfinished_search_is_not_started_over(tmp_path: Path) -> None:
    with open_directory(tmp_path) as directory:
        (directory.path / "states" / "kept").mkdir()
    with pytest.raises(RunExists, match="--resume"):
        open_directory(tmp_path)
    with open_directory(tmp_path, resume=True) as directory:
        assert (directory.path / "states" / "kept").exists()
    with open_directory(tmp_path, overwrite=True) as directory:
        assert os.listdir(directory.path / "states") == []


def test_a_changed_search_is_not_resumed(tmp_path: Path) -> None:
    open_directory(tmp_path).__exit__(None, None, None)
    with pytest.raises(RunExists, match=r"config\.yaml.*\(seed\)"):
        open_directory(tmp_path, resume=True, seed=2)
    with open_directory(tmp_path, resume=True, trials=8) as directory:
        assert "trials: 8" in directory.config.read_text()
