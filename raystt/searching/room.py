"""Whether the storage of a search has room for what comes next."""

from __future__ import annotations

import shutil

from raystt.files import unwritable
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
        self._bytes = 0

    def short(self, newest: str | None, parallel: int) -> str | None:
        """Return what is wrong: too little free space for the states in the making, or no writing.

        Args:
            newest: Name of a state that lies there, from which the size of the next is known.
            parallel: How many states are written at a time, at most.
        """
        if newest is not None and newest != self._state:
            self._state, files = newest, (self._directory.states / newest).rglob("*")
            self._bytes = max(self._bytes, sum(f.stat().st_size for f in files if f.is_file()))
        needed = _LEAST_BYTES + parallel * self._bytes
        free = shutil.disk_usage(self._directory.path).free
        if free < needed:
            return (
                f"{self._directory.path}: {free / 1e6:.0f} MB are free, the next models need "
                f"{needed / 1e6:.0f} MB"
            )
        return unwritable(self._directory.path)
