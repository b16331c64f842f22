"""Copies of what is written once: fetched, published, and deleted as a whole."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raystt import files
from raystt.files import remove, replacing
from raystt.remote.place import Place, cache, each, files_below, place_of, telling

_TRIES = 3  # to read what changes meanwhile


def fetch(directory: Path, marker: str) -> None:
    """Make a copy what the store has, if their markers differ.

    What the store does not have goes; but what this node wrote last is put there. Other processes
    of the node wait meanwhile.

    Raises:
        OSError: The store does not answer.
    """
    place = place_of(directory)
    if place is None:
        return
    with alone(directory):
        file = directory / marker
        mine = file.read_bytes() if file.is_file() else None
        for _ in range(_TRIES):
            theirs = place.read(marker)
            if theirs == mine:
                return
            if place.written_last_by(directory):
                if mine is not None:
                    publish(directory, directory, marker)
                return
            if theirs is None:
                remove(directory)
                return
            if _fetched(place, directory, marker):
                return
        raise OSError(errno.EIO, f"changed while it was read, {_TRIES} times", place.url)


def _fetched(place: Place, directory: Path, marker: str) -> bool:
    """Replace a copy; say whether what the store has stayed the same meanwhile."""
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    remove(partial)
    try:
        each(lambda name: place.get(name, partial / name), place.files())
        whole = place.read(marker) == (partial / marker).read_bytes()
        if whole:
            remove(directory)
            partial.rename(directory)
        return whole
    except FileNotFoundError:  # deleted, or replaced, as it was read
        return False
    finally:
        remove(partial)


def publish(partial: Path, directory: Path, marker: str) -> None:
    """Put what is to become a copy, or is one, into the store, its marker last.

    If another node has put the same there meanwhile, its stays.

    Raises:
        OSError: The store did not take it; what it took is not seen by anybody.
    """
    if (place := place_of(directory)) is not None:
        if partial != directory and place.read(marker) is not None:
            return
        names = [n for n in files_below(partial) if n != marker]
        each(lambda name: place.put(partial / name, name), names)
        place.put(partial / marker, marker)


def gather(partial: Path, *, mine: bool) -> None:
    """Bring together what the processes of several nodes wrote into their copies of a directory.

    Args:
        partial: The directory.
        mine: Whether this process is to have all, once the others have called this; else it gives.
    """
    place = place_of(partial)
    if place is None:
        return
    if not mine:
        each(lambda name: place.put(partial / name, name), files_below(partial))
        return
    missing = [name for name in place.files() if not (partial / name).exists()]
    each(lambda name: place.get(name, partial / name), missing)
    delete(partial)


def update(path: Path) -> None:
    """Put a file, or a directory, that has changed into the store."""
    if (place := place_of(path.parent)) is not None:
        found = [f"{path.name}/{name}" for name in files_below(path)]
        if path.is_file():
            found = [path.name]
        each(lambda name: place.put(path.parent / name, name), found)


def read(file: Path) -> bytes:
    """Return what is in a file: of a copy, in the store.

    Raises:
        FileNotFoundError: There is none.
    """
    if (place := place_of(file.parent)) is None:
        return file.read_bytes()
    found = place.read(file.name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "not there", f"{place.url}/{file.name}")
    return found


def get(file: Path) -> None:
    """Make the copy of one file what the store has; what the store does not have stays."""
    if (place := place_of(file.parent)) is not None:
        theirs = place.read(file.name)
        if theirs is not None and (not file.exists() or file.read_bytes() != theirs):
            with replacing(file) as partial:
                partial.write_bytes(theirs)


def write(file: Path, data: bytes) -> None:
    """Write a small file in the store, and not in the copy."""
    if (place := place_of(file.parent)) is not None:
        place.write(file.name, data)


def names(directory: Path) -> set[str] | None:
    """Name what is in a directory of the store; None for a directory that is no copy."""
    place = place_of(directory)
    return None if place is None else set(place.infos(recursive=False))


def delete(path: Path, marker: str = "") -> None:
    """Delete a file or a directory in the store, its marker first; the copy is the caller's."""
    if (place := place_of(path)) is not None:
        with telling(place.url), suppress(FileNotFoundError):
            if place.store.get_file_info(place.path).is_file:
                place.store.delete_file(place.path)
                return
            if marker:
                place.remove([marker])
            place.store.delete_dir(place.path)


def unwritable(directory: Path) -> str | None:
    """Try to write to a directory, and to the store behind it; return what is wrong, if anything.

    See `raystt.files.unwritable`.
    """
    try:
        if (place := place_of(directory)) is not None:
            place.age("")
    except OSError as error:
        return str(error)
    return files.unwritable(directory)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait until no other process of this node changes the copy."""
    key = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    lock = cache() / ".locks" / key
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
