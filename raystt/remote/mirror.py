"""Copies of what one process writes for long: mirrored into the store while it is held."""

from __future__ import annotations

import _thread
import json
import logging
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raystt import files
from raystt.files import locked, remove, replacing, write_atomic
from raystt.remote.copies import alone
from raystt.remote.place import BEAT, OWNER, NoStore, Place, each, files_below, place_of

SECONDS = 10.0
"""How often what a process holds is put into the store: what is lost with its machine."""

_SMALL = 1 << 20  # bytes; stores know times to the second: such files are read in any case
_SENT = ".sent"  # file of a copy: size and time of what the store has
_FRESH_SECONDS = 6 * SECONDS
_LAST = ("card.json", "summary.json")  # whose presence means that all else is there
_OWN = ("states", "ray")  # of a run: those who make states put them there; Ray Train writes itself
_TRAINERS = re.compile(r"^(trials/[^/]*/)?(train\.jsonl|events\.[^/]*)$")  # they put these there
_LOG = logging.getLogger(__name__)


@contextmanager
def held(directory: Path, refusal: Exception) -> Iterator[None]:
    """Hold a directory for this process, see `raystt.files.locked`, and mirror it meanwhile.

    A copy that this node wrote last is gone on with, whatever the store had not got yet. Else what
    is in the store replaces it. The store itself knows no locks: whoever holds the directory says
    so every few seconds, and others are refused for a minute after the last time.

    Args:
        directory: What to hold.
        refusal: Raised if another process, on any machine, holds it.

    Raises:
        NoStore: The store did not take the last of it.
        OSError: The store does not answer at the beginning.
    """
    with locked(directory, refusal):
        place = place_of(directory)
        if place is None:
            yield
            return
        mirror = _Mirror(place, directory)
        mirror.begin(refusal)
        try:
            yield
        finally:
            mirror.end()


def refresh(directory: Path) -> None:
    """Make the copy of a run, or of a folder in it, what the store has, in order to read it.

    A copy that this node holds, or wrote last, is not behind the store.
    """
    above = (directory, *directory.parents)
    root = next((one for one in above if (one / OWNER).exists()), directory)
    place = place_of(root)
    if place is None:
        return
    with alone(root):
        if not files.is_locked(root) and not place.written_last_by(root):
            _Mirror(place, root).download()


def is_held(directory: Path) -> bool:
    """Say whether a process, on any machine, holds a directory."""
    if files.is_locked(directory):
        return True
    place = place_of(directory)
    if place is None or place.written_last_by(directory):
        return False
    age = place.age(BEAT)
    return age is not None and age < _FRESH_SECONDS


class _Mirror:
    """What is done to keep a directory in the store what it is on the disk."""

    def __init__(self, place: Place, directory: Path) -> None:
        self._place, self._directory = place, directory
        self._owner = b""
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of what the store has
        self._uploading, self._beating = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._every, args=(self._upload, self._uploading), daemon=True),
            threading.Thread(target=self._every, args=(self._beat, self._beating), daemon=True),
        ]

    def begin(self, refusal: Exception) -> None:
        """Take the directory over, and begin to mirror it."""
        mine = self._directory / OWNER
        with alone(self._directory):
            if self._place.written_last_by(self._directory):
                self._owner = mine.read_bytes()
                self._sent = _read_sent(self._directory / _SENT)
            else:
                age = self._place.age(BEAT)
                if age is not None and age < _FRESH_SECONDS:
                    raise refusal
                self._owner = uuid.uuid4().hex.encode()
                self._place.write(OWNER, self._owner)
                self._beat()
                self.download()
                if self._place.read(OWNER) != self._owner:  # two have taken it over at once
                    raise refusal
                mine.write_bytes(self._owner)
        self._beat()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Put the last of it into the store, and let others take it over at once."""
        uploads, beats = self._threads
        self._uploading.set()
        uploads.join()
        try:
            self._upload()
        except OSError as error:
            raise NoStore(
                f"{self._place.url}: the store did not take the last of it ({error}); it lies in "
                f"{self._directory}, and is put there when this is run again on this machine"
            ) from error
        finally:
            self._beating.set()
            beats.join()
        with suppress(OSError):
            self._place.remove([BEAT])

    def _every(self, do: Callable[[], None], ended: threading.Event) -> None:
        told = False
        while not ended.wait(SECONDS):
            try:
                do()
                told = False
            except NoStore as error:  # it is another's now: nothing more may be written or deleted
                _LOG.error("%s", error)
                _thread.interrupt_main()
                return
            except OSError as error:
                if not told:
                    _LOG.warning("%s; it is tried again every %.0f s", error, SECONDS)
                told = True

    def _beat(self) -> None:
        self._place.write(BEAT, b"")

    def download(self) -> None:
        """Make the copy, but for states, what the store has."""
        for link in [one for one in self._directory.rglob("*") if one.is_symlink()]:
            link.unlink()  # the store has what it leads to
        theirs = self._theirs()
        here = (name for name in files_below(self._directory) if name.split("/")[0] not in _OWN)
        for name in set(here) - theirs.keys():
            remove(self._directory / name)
        each(lambda name: self._get(name, theirs[name]), theirs)
        owner = self._place.read(OWNER)
        if owner is not None:
            (self._directory / OWNER).write_bytes(b"read:" + owner)
        self._sent = self._found()

    def _get(self, name: str, there: tuple[int, int]) -> None:
        """Read a file that is not here, or is another; it gets the time that it has there."""
        path = self._directory / name
        if there[0] < _SMALL or not path.exists() or _seen(path) != there:
            with suppress(FileNotFoundError), replacing(path) as partial:  # it may go meanwhile
                self._place.get(name, partial)
                os.utime(partial, ns=(there[1], there[1]))

    def _upload(self) -> None:
        """Put what has changed into the store, and take out what is gone; markers come last."""
        if self._place.read(OWNER) != self._owner:
            raise NoStore(
                f"{self._place.url}: another machine has taken it over, since nothing was heard of "
                f"this one for a minute; what was found since lies in {self._directory} alone"
            )
        found = self._found()
        changed = [name for name, seen in found.items() if self._sent.get(name) != seen]
        for last in (False, True):
            some = [name for name in changed if (name.rpartition("/")[2] in _LAST) is last]
            each(lambda name: self._place.put(self._directory / name, name), some)
        self._place.remove(self._sent.keys() - found.keys())
        if found != self._sent:
            write_atomic(self._directory / _SENT, json.dumps(found))
        self._sent = found

    def _theirs(self) -> dict[str, tuple[int, int]]:
        """Return size and time of the files in the store that a copy has."""
        return {
            name: (info.size, info.mtime_ns or 0)
            for name, info in self._place.files().items() if name.split("/")[0] not in _OWN
        }  # fmt: skip

    def _found(self) -> dict[str, tuple[int, int]]:
        """Return size and time of the files that this process is to put there."""
        found = {}
        for name in files_below(self._directory):
            if name.split("/")[0] not in _OWN and not _TRAINERS.search(name):
                with suppress(OSError):
                    found[name] = _seen(self._directory / name)
        return found


def _read_sent(path: Path) -> dict[str, tuple[int, int]]:
    """Return what a process before this one had put into the store; at worst all is put again."""
    try:
        return {name: (size, at) for name, (size, at) in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError):
        return {}


def _seen(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
