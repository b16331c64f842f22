"""How much room a search's storage must have for what is written next."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from raystt.searching.directory import RunDirectory
from raystt.searching.room import Room

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.states.mkdir(parents=True)
    return directory


def lies(directory: RunDirectory, name: str, size: int) -> str:
    (directory.states / name / "model").mkdir(parents=True)
    (directory.states / name / "model" / "weights").write_bytes(bytes(size))
    return name


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))


def test_states_and_checkpoints_must_fit(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(directory)
    free(monkeypatch, 15 * MIB)
    assert "16 MB are free" in (room.short(None, 2) or "")
    free(monkeypatch, 17 * MIB)
    assert room.short(None, 2) is None
    # Two trainers write a state of a MiB each.
    newest = lies(directory, "0a1b", MIB)
    assert str(directory.path) in (room.short(newest, 2) or "")
    free(monkeypatch, 18 * MIB)
    assert room.short(newest, 2) is None
    # Each of them has three checkpoints, twice as large, while it writes the third: one is there.
    lies(directory, "2c3d-00112233-30", 2 * MIB)
    free(monkeypatch, 25 * MIB)
    assert "the next models need 27 MB" in (room.short(newest, 2) or "")
    free(monkeypatch, 26 * MIB)
    assert room.short(newest, 2) is None
    # What was left by trials that failed takes no room from those that run.
    for number in range(4):
        lies(directory, f"4e5f-44556677-{number}", 2 * MIB)
    free(monkeypatch, 19 * MIB)
    assert "the next models need 21 MB" in (room.short(newest, 2) or "")
    # They are gone when the segment is finished, and come again with the next.
    for path in directory.states.glob("*-*"):
        shutil.rmtree(path)
    free(monkeypatch, 27 * MIB)
    assert "the next models need 29 MB" in (room.short(newest, 2) or "")
    free(monkeypatch, 28 * MIB)
    assert room.short(newest, 2) is None


def test_a_storage_that_is_gone_has_no_room(directory: RunDirectory) -> None:
    shutil.rmtree(directory.path)
    assert str(directory.path) in (Room(directory).short(None, 1) or "")
