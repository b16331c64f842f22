"""Know that this worker is about to be ended: by SIGTERM, or with a node that is being drained."""

from __future__ import annotations

import faulthandler
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

_DRAIN_SECONDS = 5.0


@contextmanager
def told_to_end() -> Iterator[Callable[[], bool]]:
    """Give what says whether this process is about to be ended; SIGTERM does nothing else.

    A node is drained by `ray drain-node`, by an autoscaler, or by whoever hears that it will be
    taken away.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # Ray trains in a thread, where Python sets no handlers, and those that are there run only when
    # Ray's main thread comes back to Python. This one writes to the pipe at once.
    faulthandler.register(signal.SIGTERM, file=writing, all_threads=False, chain=False)
    asked, node = -math.inf, ray.get_runtime_context().get_node_id()

    def ending() -> bool:
        nonlocal asked
        if select.select([reading], [], [], 0)[0]:
            return True
        if time.monotonic() - asked < _DRAIN_SECONDS:
            return False
        asked = time.monotonic()
        # As Ray Train does, in an actor of its own for each group; `ray.nodes()` does not tell.
        return node in ray._private.state.state.get_draining_nodes()

    try:
        yield ending
    finally:
        faulthandler.unregister(signal.SIGTERM)
        os.close(writing)
        os.close(reading)
