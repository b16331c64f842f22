"""Read the shards in the order of `corpus.order`, as global batches.

A global batch is a pyarrow table of `COLUMNS` and `epoch`, one row an utterance. It needs neither
torch nor Ray, so that the processes that only read start fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from raystt.corpus.card import SIDES, Card, CardError
from raystt.corpus.order import Piece, piece_rows, pieces
from raystt.corpus.rows import column
from raystt.corpus.rules import check_rows
from raystt.corpus.shards import read

# The columns that training reads; texts and durations stay on disk.
COLUMNS = ["id"] + [
    column(which, name)
    for which in SIDES
    for name in ("units", "unit_offsets", "tokens", "token_offsets")
]


def read_piece(shard: Path, piece: Piece, rows: int, seed: int) -> pa.Table:
    """Read a piece's rows from its shard, in stream order, with their `epoch` (int64).

    Raises:
        ShardError: The shard is missing or damaged.
    """
    taken = read(shard, rows, COLUMNS).take(pa.array(piece_rows(piece, rows, seed)))
    check_rows(taken, shard)
    epoch = pa.array(np.full(taken.num_rows, piece.epoch, dtype=np.int64))
    return taken.append_column("epoch", epoch)


def split_shards(corpus: Path, card: Card, language: str, split: str) -> list[tuple[Path, int]]:
    """Return (path, rows) of the shards of a language's split, in the card's order.

    Raises:
        CardError: The card does not know the split, or none of its shards has a row.
    """
    shards = card.split(language, split).shards
    if not any(shard.rows for shard in shards):
        raise CardError(f"{corpus}: split {split!r} of {language!r} has no pairs; prepare it again")
    return [(corpus / shard.path, shard.rows) for shard in shards]


def local_batches(
    shards: list[tuple[Path, int]], *, seed: int, start_step: int, stop_step: int, batch: int
) -> Iterator[pa.Table]:
    """Yield the global batches of steps `start_step..stop_step-1`, read in this process."""
    rows = [count for _, count in shards]
    waiting: list[pa.Table] = []
    for piece in pieces(rows, seed, start_step * batch, stop_step * batch):
        path, count = shards[piece.shard]
        waiting.append(read_piece(path, piece, count, seed))
        while sum(table.num_rows for table in waiting) >= batch:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, batch).combine_chunks()
            waiting = [joined.slice(batch)] if joined.num_rows > batch else []
