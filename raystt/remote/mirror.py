"""Copies of what one process writes for long: mirrored into the store while it is held."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raystt import files
from raystt.files import locked, remove
from raystt.remote.copies import alone
from raystt.remote.place import BEAT, OWNER, NoStore, Place, each, files_below, place_of

SECONDS = 10.0
"""How often what a process holds is put into the store: what is lost with its machine."""

_FRESH_SECONDS = 6 * SECONDS
_LAST = ("card.json", "summary.json")  # whose presence means that all else is there
_OWN = ("states", "ray")  # of a run: those who make states put them there; Ray Train writes itself
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
    if place is None or files.is_locked(root):
        return
    with alone(root):
        if not place.written_last_by(root):
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
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of what the store has
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def begin(self, refusal: Exception) -> None:
        """Take the directory over, and begin to mirror it."""
        if self._place.written_last_by(self._directory):
            self._sent = dict.fromkeys(self._theirs(), (-1, -1))  # all is put there once more
        else:
            age = self._place.age(BEAT)
            if age is not None and age < _FRESH_SECONDS:
                raise refusal
            self.download()
            owner = uuid.uuid4().hex.encode()
            self._place.write(OWNER, owner)
            (self._directory / OWNER).write_bytes(owner)
        self._place.write(BEAT, b"")
        self._thread.start()

    def end(self) -> None:
        """Put the last of it into the store, and let others take it over at once."""
        self._ended.set()
        self._thread.join()
        try:
            self._upload()
            self._place.remove([BEAT])
        except OSError as error:
            raise NoStore(
                f"{self._place.url}: the store did not take the last of it ({error}); it lies in "
                f"{self._directory}, and is put there when this is run again on this machine"
            ) from error

    def _run(self) -> None:
        told = False
        while not self._ended.wait(SECONDS):
            try:
                self._upload()
                self._place.write(BEAT, b"")
                told = False
            except NoStore as error:
                _LOG.warning("%s", error)
                return
            except OSError as error:
                if not told:
                    _LOG.warning("%s; it is tried again every %.0f s", error, SECONDS)
                told = True

    def download(self) -> None:
        """Replace the copy, but for states, by what the store has."""
        for child in self._directory.iterdir() if self._directory.exists() else ():
            if child.name not in (files.LOCK, *_OWN):
                remove(child)
        each(lambda name: self._place.get(name, self._directory / name), self._theirs())
        owner = self._place.read(OWNER)
        if owner is not None:
            (self._directory / OWNER).write_bytes(b"read:" + owner)
        self._sent = self._found()

    def _upload(self) -> None:
        """Put what has changed into the store, and take out what is gone; markers come last."""
        if not self._place.written_last_by(self._directory):
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
        self._sent = found

    def _theirs(self) -> list[str]:
        """List the files in the store, but for what others put there."""
        return [name for name in self._place.files() if name.split("/")[0] not in _OWN]

    def _found(self) -> dict[str, tuple[int, int]]:
        """Return size and time of each file of the copy."""
        found = {}
        for name in files_below(self._directory):
            if name.split("/")[0] not in _OWN:
                with suppress(OSError):
                    seen = (self._directory / name).stat()
                    found[name] = (seen.st_size, seen.st_mtime_ns)
        return found
