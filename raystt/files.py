"""Files and directories that appear as a whole or not at all, and hashes of them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_PROBE_BYTES = 1 << 20
_LOST = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EFBIG")
    if hasattr(errno, name)
)
# What libraries make of them: safetensors (Rust) keeps the number, torch's archive writer does not.
# As a text alone, what sockets say too is of a lost peer: gloo's errors are texts.
_LOST_TEXTS = (*(f"(os error {code})" for code in _LOST), "PytorchStreamWriter", "inline_container",
               *(os.strerror(code) for code in _LOST - {errno.ETIMEDOUT, errno.ENOTCONN})
)  # fmt: skip


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


def remove_unfinished(directory: Path) -> None:
    """Delete what `replacing` left in a directory of processes that were killed as they wrote.

    To be called before this process writes there. What carries its own number is of one before it:
    the only process of a container is always number 1.
    """
    for left in [*directory.rglob(".*.tmp")]:
        writer = left.name.split(".")[-2]
        alive = writer.isdecimal() and psutil.pid_exists(int(writer))
        if not alive or int(writer) == os.getpid():
            remove(left)


def sha256(path: str | os.PathLike[str]) -> str:
    """Hash what is in a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def edited(hashes: Mapping[str, str]) -> list[str]:
    """Return the files, by path, whose `content_hash` is another now; absent ones are passed over.

    Raises:
        OSError: One cannot be read.
    """
    return [path for path, held in hashes.items()
            if os.path.isfile(path) and content_hash(path) != held]  # fmt: skip


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


LOCK = ".lock"
"""Name of the file that `locked` locks in a directory."""


@contextmanager
def locked(directory: Path, refusal: Exception) -> Iterator[None]:
    """Hold a directory, which is made, for this process.

    The lock goes with the process, however it ends: a killed one leaves none behind.

    Args:
        directory: What to hold.
        refusal: Raised if another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        yield


def is_locked(directory: Path) -> bool:
    """Say whether a process holds a directory, see `locked`."""
    try:
        with (directory / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it was never held
        return False
    return False


def storage_error(error: BaseException) -> bool:
    """Say whether an error, or what it came from, is that of a full or lost file system."""
    # Each once: two errors may each have come while the other was handled.
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        if isinstance(one, OSError) and one.errno in _LOST:
            return True
        if any(text in str(one) for text in _LOST_TEXTS):
            return True
        chain.append(one)
        one = one.__cause__ or one.__context__
    return False


def unwritable(directory: str | os.PathLike[str]) -> str | None:
    """Try to write to a directory, or where it will be; return what is wrong, if anything."""
    place = Path(directory).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    probe = place / f".probe.{os.getpid()}.tmp"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{directory}: {error.strerror or error}"
    finally:
        with suppress(OSError):
            probe.unlink()
    return None
