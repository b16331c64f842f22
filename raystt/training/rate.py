"""The learning rate by step, as a factor of the highest."""

from __future__ import annotations

import math
from collections.abc import Callable


def learning_rate(kind: str, warmup: int, steps: int) -> Callable[[int], float]:
    """Return the factor by step, from 0: up to 1 in a line, then down to 0, or level.

    As `transformers.get_scheduler` has it to the bit, whose import takes seconds of each process
    that trains.

    Args:
        kind: "linear", "cosine" (half a period) or "constant_with_warmup".
        warmup: Steps on the way up.
        steps: Steps in all.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        if kind == "constant_with_warmup":
            return 1.0
        if kind == "linear":
            return max(0.0, (steps - step) / max(1, steps - warmup))
        done = (step - warmup) / max(1, steps - warmup)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))

    return factor
