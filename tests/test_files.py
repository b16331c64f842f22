"""Files and directories that appear as a whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from raystt.files import remove, replacing, storage_error, unwritable, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_the_one_before(tmp_path: Path) -> None:
    place = tmp_path / "a" / "file"
    for text in ("x", "y"):
        with replacing(place) as path:
            path.write_text(text)
            assert not place.exists() or place.read_text() == "x"
        assert place.read_text() == text
    write_atomic(place, "\u00e9")
    assert place.read_bytes() == b"\xc3\xa9"
    assert names(place.parent) == ["file"]


def test_the_first_directory_stays(tmp_path: Path) -> None:
    for text in ("x", "y"):
        with replacing(tmp_path / "folder") as path:
            path.mkdir()
            (path / "file").write_text(text)
    assert names(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "file").read_text() == "x"


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "x")
    with pytest.raises(RuntimeError), replacing(tmp_path / "file") as path:
        path.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), replacing(tmp_path / "folder") as path:
        path.mkdir()
        (path / "x").touch()
        raise RuntimeError
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "nothing"):
        pass
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "taken", "x")
    assert names(tmp_path) == ["file", "taken"]
    assert (tmp_path / "file").read_text() == "x"


def test_what_an_earlier_block_left_is_not_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "folder") as left:
        pass
    left.mkdir()
    (left / "old").touch()
    with replacing(tmp_path / "folder") as path:
        path.mkdir()
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == []


def test_removing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == ["file"]
    remove(tmp_path / "folder")
    remove(tmp_path / "folder")
    assert names(tmp_path) == []


def test_a_storage_is_tried_where_it_will_be(tmp_path: Path) -> None:
    assert unwritable(tmp_path) is None and unwritable(tmp_path / "not" / "yet") is None
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in str(unwritable(tmp_path / "file"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_errors_of_the_storage_are_known_by_number_and_by_text() -> None:
    assert storage_error(OSError(errno.ENOSPC, "x"))
    assert storage_error(RuntimeError("Error while serializing: I/O error: (os error 28)"))
    try:
        try:
            raise OSError(errno.EROFS, "x")
        except OSError as error:
            raise RuntimeError("could not be written") from error
    except RuntimeError as error:
        assert storage_error(error)
    assert not storage_error(FileNotFoundError(errno.ENOENT, "x"))
    assert not storage_error(ValueError("the data ended"))
    # A lost peer of a group, as gloo says it; a file system says the same with a number.
    for code in (errno.ETIMEDOUT, errno.ENOTCONN):
        assert not storage_error(RuntimeError(f"Read error [::1]:1234: {os.strerror(code)}"))
        assert storage_error(OSError(code, os.strerror(code)))


def test_errors_that_come_of_each_other_are_looked_at_once() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__context__, second.__context__ = second, first
    assert not storage_error(first)
    second.__cause__ = OSError(errno.ENOSPC, "x")
    assert storage_error(first)
