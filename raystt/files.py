"""Files and directories that appear as a whole or not at all, and hashes of them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block succeeds.

    The block makes a file or a directory of it. A file replaces the one before. A directory that is
    there already stays, and what was made is dropped: whoever is first has written it. Folders
    above are made. The leading dot keeps what is half-written out of the listings of readers.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError:
            if not (temporary.is_dir() and path.is_dir()):
                raise
    finally:
        remove(temporary)


def sha256(path: str | os.PathLike[str]) -> str:
    """Hash what is in a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(path: str | os.PathLike[str]) -> str:
    """Hash what is in a file, 16 hex digits."""
    return sha256(path)[:16]


def write_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that a reader sees all of it or the file before it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
    sync(Path(path).parent)


def sync(path: Path) -> None:
    """Have a file's content, or a directory's names, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a directory with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
