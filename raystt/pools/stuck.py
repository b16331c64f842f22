"""End a process whose step hangs: on a dead file system or a lost device it raises nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


@contextmanager
def unless_stuck(
    seconds: float, tell: Callable[[], None]
) -> Iterator[Callable[[Iterator[_T]], Iterator[_T]]]:
    """Give what passes a stream on, and ends this process when nothing asks for more in time.

    A group with a worker that hangs would hold its place for ever. Until the first item is asked
    for, models are loaded: that may take long.

    Args:
        seconds: Longest time between two items.
        tell: Called before the end.
    """
    asked: float | None = None
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(min(1.0, seconds / 4)):
            if asked is not None and time.monotonic() - asked > seconds:
                try:
                    tell()
                finally:
                    os._exit(1)

    def alive(stream: Iterator[_T]) -> Iterator[_T]:
        nonlocal asked
        for item in stream:
            asked = time.monotonic()
            yield item

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield alive
    finally:
        ended.set()
