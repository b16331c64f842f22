"""Whether the storage of a search has room for what comes next."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from raystt import remote
from raystt.searching.directory import RunDirectory

_LEAST_BYTES = 16 << 20


class Room:
    """Looks at the free space of a search's storage.

    Args:
        directory: The search's directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._state = ""
        self._bytes = self._checkpoint = 0

    def short(self, newest: str | None, parallel: int) -> str | None:
        """Return what is wrong: too little free space for the states in the making, or no writing.

        Args:
            newest: Name of a state that lies there, from which the size of the next is known.
            parallel: How many states are written at a time, at most.
        """
        if newest is not None and newest != self._state:
            self._state = newest
            self._bytes = max(self._bytes, _size(self._directory.states / newest))
        there = [_size(path) for path in self._directory.states.glob("*-*[0-9]")]
        self._checkpoint = max([self._checkpoint, *there])
        # A segment's last two checkpoints are kept while the next is written; those that lie there
        # need no more room, but for what an ended trial may have left.
        kept = min(sum(there), parallel * 2 * self._checkpoint)
        needed = _LEAST_BYTES + parallel * max(self._bytes, 3 * self._checkpoint) - kept
        try:
            free = shutil.disk_usage(self._directory.path).free
        except OSError as error:  # unmounted, or deleted
            return f"{self._directory.path}: {error.strerror}"
        if free < needed:
            return (
                f"{self._directory.path}: {free / 1e6:.0f} MB are free, the next models need "
                f"{needed / 1e6:.0f} MB"
            )
        return remote.unwritable(self._directory.path)


def _size(state: Path) -> int:
    """Return the bytes of a state, or of what is left of one that is being deleted."""
    with suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in state.rglob("*") if file.is_file())
    return 0
