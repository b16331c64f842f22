"""Batches of recordings for CTC: the same on any number of workers, decoded ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import TypeVar

import numpy as np

# Utterances of like length share a batch, so that little of it is padding; a window this wide
# still mixes speakers and languages.
_WINDOW = 512
_AHEAD = 4

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def epoch_batches(
    seconds: np.ndarray, batch_seconds: float, seed: int, epoch: int
) -> list[np.ndarray]:
    """Divide all utterances into batches, in an order that is a pure function of the arguments.

    Args:
        seconds: float [utterances], length of each.
        batch_seconds: Most audio of a batch with its padding; a longer utterance is alone.
        seed: Seed of the order.
        epoch: Number of the pass over the utterances, each with an order of its own.

    Returns:
        int64 [utterances of the batch] each: indices into `seconds`.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(seconds))
    batches: list[list[int]] = []
    for start in range(0, len(order), _WINDOW):
        window = order[start : start + _WINDOW]
        batch: list[int] = []
        for index in window[np.argsort(seconds[window], kind="stable")]:
            # The window rises in length: the newest is the longest.
            if batch and (len(batch) + 1) * seconds[index] > batch_seconds:
                batches.append(batch)
                batch = []
            batch.append(int(index))
        batches.append(batch)
    return [np.array(batches[place], dtype=np.int64) for place in random.permutation(len(batches))]


def step_batches(
    seconds: np.ndarray, batch_seconds: float, seed: int, start: int, stop: int
) -> Iterator[np.ndarray]:
    """Yield the batches of steps `start` to `stop - 1`, epoch after epoch."""
    endless = (
        batch
        for epoch in count()
        for batch in epoch_batches(seconds, batch_seconds, seed, epoch)
    )  # fmt: skip
    return islice(endless, start, stop)


def share(batch: np.ndarray, rank: int, world_size: int) -> tuple[np.ndarray, float]:
    """Return a worker's part of a batch, and the weight of the mean over that part.

    The sum of weight x mean over all workers is the mean over the batch. A part can be empty.
    """
    part = batch[rank::world_size]
    return part, len(part) / len(batch)


def loaded_ahead(items: Iterator[Item], load: Callable[[Item], Loaded]) -> Iterator[Loaded]:
    """Yield `load(item)` of each item in order, some items ahead in a thread.

    Decoding audio releases the interpreter, so it costs a training step on a GPU nothing.
    """
    with ThreadPoolExecutor(1, "audio") as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for item in islice(items, _AHEAD):
                waiting.append(pool.submit(load, item))
            while waiting:
                ready = waiting.popleft().result()
                for item in islice(items, 1):
                    waiting.append(pool.submit(load, item))
                yield ready
        finally:
            for future in waiting:
                future.cancel()


def held_out(utterances: int, most: int, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """Draw a tenth of the utterances, at least one and at most `most`: (held out, the others)."""
    order = np.random.default_rng([seed, 1 << 32]).permutation(utterances)
    size = min(most, max(1, utterances // 10))
    return sorted(order[:size].tolist()), sorted(order[size:].tolist())
