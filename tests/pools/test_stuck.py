"""What ends a trainer that is stuck."""

from __future__ import annotations

import subprocess
import sys

STUCK = """
import time
from raystt.pools.stuck import unless_stuck

with unless_stuck(1.0, lambda: print("told", flush=True)) as alive:
    time.sleep(1.5)  # models are loaded
    for number in range(3):
        alive()
        print(number, flush=True)
        time.sleep({seconds})
print("done")
"""


def run(seconds: float) -> tuple[int, list[str]]:
    """Work for so many seconds on each of three items; one is too many."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK.format(seconds=seconds)], capture_output=True, text=True
    )
    return done.returncode, done.stdout.split()


def test_a_step_without_end_ends_the_process_and_says_so_before() -> None:
    assert run(60.0) == (1, ["0", "told"])


def test_steps_that_take_their_time_are_left_alone() -> None:
    assert run(0.1) == (0, ["0", "1", "2", "done"])
