"""The report of a search that still runs, written again and again beside it."""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_SECONDS = 60.0
_SHARE = 20  # the time between two writings is so many times what one took


class LiveReport:
    """Writes a report when there is something new, in a thread, and seldom enough to cost little.

    Args:
        write: Writes it.
        on_message: Told once if that fails; it is tried again, and the search goes on.
        clock: Gives seconds.
    """

    def __init__(
        self,
        write: Callable[[], object],
        on_message: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._on_message, self._clock = write, on_message, clock
        self._thread: threading.Thread | None = None
        self._next, self._shown, self._told = -math.inf, 0, False

    def look(self, found: int) -> None:
        """Write it if more is found than it shows, and it is time again.

        Args:
            found: Grows with what there is to show.
        """
        busy = self._thread is not None and self._thread.is_alive()
        if busy or found <= self._shown or self._clock() < self._next:
            return
        self._shown = found
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for what is being written: nobody else may write it meanwhile."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        began = self._clock()
        try:
            self._write()
        except Exception as error:
            if not self._told:
                self._on_message(f"the report was not written while the search runs: {error}")
            self._told = True
        # A page of 1,000 trials takes 80 MB to write, which the C library would keep for the next.
        with suppress(OSError, AttributeError):  # not every C library can
            ctypes.CDLL(None).malloc_trim(0)
        now = self._clock()
        self._next = now + max(_SECONDS, _SHARE * (now - began))
