"""What SIGTERM does: a hint at once, then an orderly end, by force where that takes too long."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

TERMINATED = 143
"""Exit code of a process that SIGTERM ended."""

_GRACE_SECONDS = 2.5  # `ray job stop` kills 3 s after SIGTERM


@contextmanager
def terminable(hint: str) -> Iterator[None]:
    """Let SIGTERM break off the block and end the process, by force where that takes too long.

    The hint is printed at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminated, told = threading.Event(), threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        if not terminated.is_set():
            terminated.set()
            # Not as an interrupt: Tune's handler would wait for the actors of its trials for 5 s.
            sys.exit(TERMINATED)

    def watch() -> None:
        while signals := os.read(reading, 64):
            if signal.SIGTERM in signals:
                os.write(2, hint.encode())
                told.set()
                time.sleep(_GRACE_SECONDS)
                _end()
        os.close(reading)

    # Through a pipe: the main thread may be within a library's call, and its handlers come later.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    waked = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        if terminated.is_set():
            told.wait()
            _end()
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(waked)
        os.close(writing)


def _end() -> None:
    """End this process and all below it at once; Python's and Ray's own ends take seconds.

    Nothing on disk needs more than a SIGKILL leaves.
    """
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(TERMINATED)
