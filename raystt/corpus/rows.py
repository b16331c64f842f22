"""A row of a shard, one sentence pair; and the ragged arrays that training reads of many.

Words are alignment groups (one or several orthographic words); the two offset lists of a side say
which tokens and which units belong to each. Rows of the split `text` carry no units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raystt.corpus.card import SIDES, SideName
from raystt.interleaving.sequences import Side

IDS = pa.list_(pa.field("item", pa.int32(), nullable=False))
_SIDE = {
    "text": pa.string(),
    "tokens": IDS,
    "token_offsets": IDS,
    "units": IDS,
    "durations": IDS,
    "unit_offsets": IDS,
    "seconds": pa.float32(),
}


def column(which: SideName, name: str) -> str:
    """Name the column of a side's field: columns are flat, since they are read one by one."""
    return f"{which}_{name}"


SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "language", "split")),
        *(
            pa.field(column(which, name), kind, nullable=False)
            for which in SIDES
            for name, kind in _SIDE.items()
        ),
    ]
)


@dataclass(frozen=True)
class RowSide:
    """One side of a row.

    Attributes:
        text: as the reader gives it; "" where there is none.
        tokens: its token ids.
        token_offsets: the tokens of each word, [words + 1].
        units: unit ids.
        durations: frames of each unit.
        unit_offsets: the units of each word, [words + 1].
        seconds: length of the audio.
    """

    text: str
    tokens: Sequence[int] | np.ndarray
    token_offsets: Sequence[int] | np.ndarray
    units: Sequence[int] | np.ndarray
    durations: Sequence[int] | np.ndarray
    unit_offsets: Sequence[int] | np.ndarray
    seconds: float


@dataclass(frozen=True)
class Row:
    """A sentence pair as a shard holds it."""

    id: str
    language: str
    split: str
    source: RowSide
    target: RowSide


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Put rows into a table with the columns of `SCHEMA`, unchecked."""
    arrays = [[getattr(row, name) for row in rows] for name in ("id", "language", "split")]
    for which in SIDES:
        sides = [getattr(row, which) for row in rows]
        arrays += [[getattr(side, name) for side in sides] for name in _SIDE]
    columns = [pa.array(one, type=f.type) for one, f in zip(arrays, SCHEMA, strict=True)]
    return pa.table(columns, schema=SCHEMA)


def of_side(table: pa.Table, which: SideName) -> pa.Table:
    """Return a side's columns, as many as the table has of them, under their plain names."""
    names = {name: column(which, name) for name in _SIDE}
    held = {name: table[full] for name, full in names.items() if full in table.column_names}
    return pa.table(held)


def side(table: pa.Table, which: SideName, unit_token_offset: int) -> Side:
    """Turn one side of the rows of a table into ragged arrays.

    Args:
        table: rows with the columns of `SCHEMA` (a slice or several chunks are fine).
        which: "source" or "target".
        unit_token_offset: token id of unit 0 (`card.tokenizer.unit_offset`).

    Returns:
        A `Side` whose `units` are token ids.
    """
    held = of_side(table, which)
    text, text_lengths = ragged(held, "tokens")
    units, unit_lengths = ragged(held, "units")
    text_starts, counts = ragged(held, "token_offsets")
    unit_starts, _ = ragged(held, "unit_offsets")
    word_offsets = _cumulative(counts - 1)
    return Side(
        text=text,
        text_offsets=_word_spans(text_starts, counts, text_lengths),
        units=units + np.int32(unit_token_offset),
        unit_offsets=_word_spans(unit_starts, counts, unit_lengths),
        word_offsets=word_offsets,
    )


def ragged(table: pa.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat values (int32) and the lengths (int64, [rows]) of a list column."""
    chunked = table.column(column)
    array = chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks gives for no chunks at all
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    # flatten() honours the slice; the offsets of a slice do not start at 0 but their steps hold.
    values = array.flatten().to_numpy(zero_copy_only=False)
    lengths = np.diff(array.offsets.to_numpy()).astype(np.int64)
    return values.astype(np.int32, copy=False), lengths


def _cumulative(lengths: np.ndarray) -> np.ndarray:
    out = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def _word_spans(starts: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Join offsets that restart at 0 in each row into one array, int64 [words + 1].

    The last offset of a row is the first of the next, so it is dropped everywhere but at the end.
    """
    bases = _cumulative(lengths)
    joined = starts + np.repeat(bases[:-1], counts)
    keep = np.ones(len(joined), dtype=bool)
    keep[np.cumsum(counts) - 1] = False
    return np.append(joined[keep], bases[-1]).astype(np.int64, copy=False)
