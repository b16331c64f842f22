"""URLs of object stores, the copies that stand for them, and files in a store."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raystt.errors import BadInput

CACHE = "RAYSTT_CACHE"
"""Environment variable that names the directory of all copies; the same path on all nodes."""

OWNER, BEAT = ".owner", ".beat"
"""Files in the store of whoever holds a directory, see `raystt.remote.mirror`."""

_OWN = re.compile(rf"({re.escape(OWNER)}|{re.escape(BEAT)}[^/]*)$")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")
_THREADS = 16
_CHUNK = 8 << 20


class NoStore(BadInput):
    """A URL of no object store that this installation can use; the text says what to do."""


@dataclass(frozen=True)
class Place:
    """A directory in a store: a file system of pyarrow's, and the path in it."""

    store: Any
    path: str
    url: str

    def __truediv__(self, name: str) -> Place:
        return Place(self.store, f"{self.path}/{name}", f"{self.url}/{name}")

    def read(self, name: str) -> bytes | None:
        """Return what is in a file; None if there is none."""
        with telling(self.url):
            try:
                with self.store.open_input_stream(f"{self.path}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        with telling(self.url), self.store.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(data)

    def put(self, source: Path, name: str) -> None:
        """Write a file of the disk; one that is gone meanwhile is passed over."""
        try:
            file = source.open("rb")
        except FileNotFoundError:
            return
        with file, telling(self.url):
            path = f"{self.path}/{name}"
            if self.store.type_name == "local":  # an object store has no directories
                self.store.create_dir(path.rpartition("/")[0])
            with self.store.open_output_stream(path) as stream:
                shutil.copyfileobj(file, stream, _CHUNK)

    def get(self, name: str, target: Path) -> None:
        """Read a file to the disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            telling(self.url),
            self.store.open_input_stream(f"{self.path}/{name}") as stream,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(stream, file, _CHUNK)

    def written_last_by(self, copy: Path) -> bool:
        """Say whether the node of a copy was the last that held this, see `raystt.remote.held`."""
        mine = copy / OWNER
        return mine.is_file() and mine.read_bytes() == self.read(OWNER)

    def infos(self, *, recursive: bool) -> dict[str, Any]:
        """Return pyarrow's infos of what is in the directory, by path in it."""
        from pyarrow.fs import FileSelector

        with telling(self.url):
            chosen = FileSelector(self.path, recursive=recursive, allow_not_found=True)
            infos = self.store.get_file_info(chosen)
        return {info.path.removeprefix(self.path).lstrip("/"): info for info in infos}

    def files(self) -> dict[str, Any]:
        """Return pyarrow's infos of the files below, but for those of whoever holds it."""
        infos = self.infos(recursive=True).items()
        return {name: info for name, info in infos if info.is_file and not _OWN.match(name)}

    def age(self, name: str) -> float | None:
        """Return how many seconds ago a file was written, by the store's own clock."""
        probe = f"{BEAT}.{uuid.uuid4().hex}"
        with telling(self.url):
            self.write(probe, b"now")
            found = self.store.get_file_info([f"{self.path}/{name}", f"{self.path}/{probe}"])
            self.store.delete_file(f"{self.path}/{probe}")
        if not found[0].is_file:
            return None
        if None in (found[0].mtime_ns, found[1].mtime_ns):
            raise NoStore(f"{self.url}: this store tells no times of files; use another one")
        return float(found[1].mtime_ns - found[0].mtime_ns) / 1e9

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, as far as they are there."""
        for name in names:
            with telling(self.url), suppress(FileNotFoundError):
                self.store.delete_file(f"{self.path}/{name}")


def is_url(place: str | os.PathLike[str]) -> bool:
    """Say whether a place is in a store; one that went through a `Path` lost a slash."""
    return _URL.fullmatch(os.fspath(place)) is not None


def local(place: str | os.PathLike[str]) -> Path:
    """Return the absolute directory in which this node works on a place.

    Args:
        place: A path, or the URL of a directory in a store.

    Raises:
        NoStore: The URL names more than a directory.
    """
    found = _URL.fullmatch(os.fspath(place))
    if found is None:
        return Path(place).resolve()
    rest = found[2].strip("/")
    if not rest or "?" in rest or "#" in rest or ".." in rest.split("/"):
        raise NoStore(
            f"{os.fspath(place)!r} is no URL of a directory in a store; write such as "
            "s3://bucket/runs: endpoint, region and credentials are those of the environment, such "
            "as AWS_ENDPOINT_URL"
        )
    return cache() / found[1].lower() / rest


def cache() -> Path:
    """Return the directory of all copies."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "raystt").resolve()


def url_of(path: Path) -> str | None:
    """Return the URL that a directory or file is a copy of, None for any other."""
    root = cache()
    if root not in path.parents:
        return None
    scheme, _, rest = path.relative_to(root).as_posix().partition("/")
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest}"


def named(path: Path) -> str:
    """Return what a person knows a directory by: its URL, or its path."""
    return url_of(path) or str(path)


def place_of(path: Path) -> Place | None:
    url = url_of(path)
    if url is None:
        return None
    scheme, _, rest = url.partition("://")
    bucket, _, below = rest.partition("/")
    store, start = _store(f"{scheme}://{bucket}" + ("/" if scheme == "file" else ""))
    return Place(store, f"{start.rstrip('/')}/{below}" if below else start, url)


def each(do: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(do, names):
            pass


def files_below(directory: Path) -> list[str]:
    """List files below a directory that are no half-written ones; links are followed."""
    found = []
    for folder, below, here in os.walk(directory, followlinks=True):
        below[:] = [name for name in below if not _passing(name)]
        place = Path(folder).relative_to(directory)
        found += [(place / name).as_posix() for name in here if not _passing(name)]
    return sorted(found)


def _passing(name: str) -> bool:
    return name.startswith(".") or name.endswith((".partial", ".tmp", ".log.lock"))


@contextmanager
def telling(url: str) -> Iterator[None]:
    """Give errors of a store, which have no number, that of a lost device, and its name."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise OSError(errno.EIO, " ".join(str(error).split()), url) from error


@functools.lru_cache(maxsize=16)
def _store(url: str) -> tuple[Any, str]:
    """Return pyarrow's file system of a bucket, and the path of the bucket in it."""
    from pyarrow import ArrowInvalid, ArrowNotImplementedError
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    # Arrow opens a multipart upload at once, three requests for a small file, unless it may wait.
    options = "?allow_delayed_open=true" if url.startswith("s3:") else ""
    try:
        found: tuple[Any, str] = FileSystem.from_uri(url + options)
        return found
    except (ArrowInvalid, ArrowNotImplementedError):
        pass
    try:
        import fsspec  # type: ignore[import-untyped]

        store, start = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise NoStore(
            f"{url}: neither pyarrow nor fsspec opens such URLs here ({error}); install what it "
            "names, or mount the storage and give the path"
        ) from None
    return PyFileSystem(FSSpecHandler(store)), start
