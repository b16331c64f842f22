"""The order in which a training run sees its utterances, as a pure function.

Epoch `e` is a permutation of the shards followed by a permutation of the rows within each shard,
both derived from (seed, epoch, shard). A run's stream is epoch 0, epoch 1, ...; a step takes the
next `batch_utterances` of it. Nothing is stored: a resumed run, another world size, or Ray Data
instead of a plain loop compute the same order again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Piece:
    """Rows `start..stop-1` of a shard's permuted order in one epoch."""

    shard: int
    epoch: int
    start: int
    stop: int


def pieces(shard_rows: Sequence[int], seed: int, start: int, stop: int) -> Iterator[Piece]:
    """Yield the pieces that make up utterances `start..stop-1` of the endless stream.

    Args:
        shard_rows: Rows of each shard, in the card's order.
        seed: Seed of the run.
        start: First position in the stream (utterances, 0-based).
        stop: Position after the last.

    Raises:
        ValueError: If there are no rows at all.
    """
    total = int(sum(shard_rows))
    if total <= 0:
        raise ValueError("the split has no utterances: nothing can be streamed from it")
    epoch = start // total
    position = epoch * total
    while position < stop:
        order = np.random.default_rng((seed, epoch)).permutation(len(shard_rows))
        for shard in order.tolist():
            rows = shard_rows[shard]
            first, last = max(start - position, 0), min(stop - position, rows)
            if first < last:
                yield Piece(shard, epoch, first, last)
            position += rows
        epoch += 1


def piece_rows(piece: Piece, rows: int, seed: int) -> np.ndarray:
    """Return the row numbers of a piece, int64 `[stop - start]`, in stream order."""
    rng = np.random.default_rng((seed, piece.epoch, piece.shard))
    return rng.permutation(rows)[piece.start : piece.stop]
