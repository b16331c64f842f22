"""End a process whose step hangs: on a dead file system or a lost device it raises nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def unless_stuck(seconds: float, tell: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Give what is to be called at each step, and end this process when it is not called in time.

    A group with a worker that hangs would hold its place for ever. Until the first call, models are
    loaded: that may take long.

    Args:
        seconds: Longest time between two calls.
        tell: Called before the end.
    """
    called: float | None = None
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(min(1.0, seconds / 4)):
            if called is not None and time.monotonic() - called > seconds:
                try:
                    tell()
                finally:
                    os._exit(1)

    def alive() -> None:
        nonlocal called
        called = time.monotonic()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield alive
    finally:
        ended.set()
