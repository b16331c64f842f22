"""Files that appear as a whole or not at all, and hashes of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path` that takes its place when the block succeeds.

    Folders are made. The leading dot keeps what is half-written out of the listings of readers.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def content_hash(path: str | os.PathLike[str]) -> str:
    """Hash what is in a file, 16 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def write_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that a reader sees all of it or the file before it."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
