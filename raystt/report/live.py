"""The report of a search that still runs, written again and again beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SECONDS = 60.0
_SHARE = 20  # the time between two writings is so many times what one took


class LiveReport:
    """Writes a report when there is something new, in a thread, and seldom enough to cost little.

    Args:
        write: Writes it.
        on_message: Told once if that fails; the search goes on.
    """

    def __init__(self, write: Callable[[], object], on_message: Callable[[str], None]) -> None:
        self._write, self._on_message = write, on_message
        self._thread: threading.Thread | None = None
        self._next, self._shown, self._failed = 0.0, 0, False

    def look(self, finished: int) -> None:
        """Write it if more trials are finished than it shows, and it is time again."""
        busy = self._thread is not None and self._thread.is_alive()
        if busy or self._failed or finished <= self._shown or time.monotonic() < self._next:
            return
        self._shown = finished
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for what is being written: nobody else may write it meanwhile."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._write()
        except Exception as error:
            self._failed = True
            self._on_message(f"the report was not written while the search runs: {error}")
        now = time.monotonic()
        self._next = now + max(_SECONDS, _SHARE * (now - began))
