"""Shards: Parquet files of sentence pairs, and the ragged arrays that training reads from them.

A row is one pair. Words are alignment groups (one or several orthographic words); the two offset
lists of a side say which tokens and which units belong to each. Rows of the split `text` carry no
units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raystt.corpus.card import SIDES, Card, SideName
from raystt.errors import BadInput
from raystt.files import replacing
from raystt.interleaving.rules import utterance_key
from raystt.interleaving.sequences import Side

_IDS = pa.list_(pa.field("item", pa.int32(), nullable=False))
_SIDE = {
    "text": pa.string(),
    "tokens": _IDS,
    "token_offsets": _IDS,
    "units": _IDS,
    "durations": _IDS,
    "unit_offsets": _IDS,
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


class ShardError(BadInput, ValueError):
    """A shard that is missing or damaged; the text names file, row, column and fix."""


def split_directory(language: str, split: str) -> str:
    """Return the directory of a split's shards, relative to the corpus."""
    return f"shards/language={language}/split={split}"


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


def write_shard(rows: Iterable[Row], path: Path | str) -> None:
    """Write rows atomically; equal rows, equal bytes.

    Raises:
        ShardError: a row breaks a rule of `validate`.
    """
    write_table(table_of(list(rows)), Path(path))


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table with the columns of `SCHEMA`; see `write_shard`."""
    validate(table, path)
    write_parquet(table, path)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a Parquet file that is whole or absent, and whose pages have checksums."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_parquet(path: Path, fix: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what `write_parquet` wrote, and compare the checksums of the pages that are read.

    Args:
        path: the file.
        fix: what to do about a damaged one, for the message.
        columns: those to read; None = all.

    Raises:
        ShardError: it is damaged.
        OSError: the file system does not give it.
    """
    try:
        table = pq.read_table(
            path, columns=columns, partitioning=None, page_checksum_verification=True
        )
        table.validate(full=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:  # Arrow's own OSErrors have no number
        if getattr(error, "errno", None) is not None:
            raise
        raise ShardError(f"{path}: not a readable Parquet file ({error}); {fix}") from None
    return table


def read_rows(
    directory: Path | str, card: Card, language: str, split: str, limit: int | None = None
) -> pa.Table:
    """Read a split in shard order, or a sample of at most `limit` rows.

    A sample is the rows that come first in the order of `utterance_key`, in that order: fair,
    whatever order the shards are in, and the beginning of every larger one.

    Raises:
        ShardError: a shard is missing, unreadable or has other columns.
        CardError: the card does not know the language or the split.
    """
    shards = card.split(language, split).shards
    tables = [read(Path(directory) / shard.path, shard.rows) for shard in shards]
    for table, shard in zip(tables, shards, strict=True):
        check_rows(table, Path(directory) / shard.path)
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    if limit is None:
        return table
    keys = np.array([utterance_key(name) for name in table["id"].to_pylist()], np.uint64)
    return table.take(np.argsort(keys)[:limit])


def read(path: Path, rows: int, columns: Sequence[str] = tuple(SCHEMA.names)) -> pa.Table:
    """Read columns of a shard.

    Args:
        path: the Parquet file.
        rows: its rows, as the card has them.
        columns: some of `SCHEMA`; `check_rows` tells whether their rows keep the rules.

    Raises:
        ShardError: it is missing, damaged, or has other rows or columns.
        OSError: the file system does not give it; a damaged one is not meant.
    """
    fix = "delete it and card.json, then run `raystt prepare` again"
    try:
        table = read_parquet(path, fix, list(columns))
    except FileNotFoundError:
        raise ShardError(
            f"{path}: the shard named in card.json is missing; delete card.json and run "
            "`raystt prepare` again"
        ) from None
    if table.num_rows != rows:
        raise ShardError(
            f"{path}: {table.num_rows} rows, the corpus card says {rows}; "
            "the shard was changed after `raystt prepare`: prepare the corpus again"
        )
    return _with_schema(table, path, columns)


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
    text, text_lengths = _ragged(held, "tokens")
    units, unit_lengths = _ragged(held, "units")
    text_starts, counts = _ragged(held, "token_offsets")
    unit_starts, _ = _ragged(held, "unit_offsets")
    word_offsets = _cumulative(counts - 1)
    return Side(
        text=text,
        text_offsets=_word_spans(text_starts, counts, text_lengths),
        units=units + np.int32(unit_token_offset),
        unit_offsets=_word_spans(unit_starts, counts, unit_lengths),
        word_offsets=word_offsets,
    )


def validate(table: pa.Table, path: Path | str) -> None:
    """Check columns, types, and that offsets cover tokens and units of every row.

    Raises:
        ShardError: naming the file, the row and the column.
    """
    table = _with_schema(table, path, SCHEMA.names)
    if len(pc.unique(table.column("id"))) != len(table):
        counts = pc.value_counts(table.column("id"))
        names = [c["values"] for c in counts.to_pylist() if c["counts"] > 1]
        raise ShardError(f"{path}: id: {names[0]!r} appears more than once; prepare again")
    check_rows(table, path)


def check_rows(table: pa.Table, path: Path | str) -> None:
    """Check that offsets cover tokens and units of every row, of the columns there are.

    Raises:
        ShardError: naming the file, the row and the column.
    """
    for which in SIDES:
        fault = _fault(of_side(table, which))
        if fault is not None:
            row, name, reason = fault
            raise ShardError(
                f"{path}: row {row} (id {table['id'][row].as_py()!r}): {column(which, name)}: "
                f"{reason}; prepare the corpus again"
            )


def _fault(held: pa.Table) -> tuple[int, str, str] | None:
    """Return row, field and reason of the first rule that the rows of a side break."""
    words = _ragged(held, "token_offsets")[1]
    for kind, offsets in (("tokens", "token_offsets"), ("units", "unit_offsets")):
        values, lengths = _ragged(held, kind)
        spans, counts = _ragged(held, offsets)
        bad = _first(counts != words) if kind == "units" else _first(counts < 2)
        if bad is not None:
            reason = (
                f"has {counts[bad]} values; token_offsets has {words[bad]} and needs two or more"
            )
            return bad, offsets, reason
        bad = _first_bad_offsets(spans, counts, lengths)
        if bad is not None:
            return bad, offsets, f"must rise from 0 to the number of {kind}"
        bad = _row_of_first(values < 0, lengths)
        if bad is not None:
            return bad, kind, "has a negative id"
    if "durations" not in held.column_names:
        return None
    durations, duration_counts = _ragged(held, "durations")
    bad = _first(duration_counts != _ragged(held, "units")[1])
    if bad is not None:
        return bad, "durations", "must have one value a unit"
    bad = _row_of_first(durations < 1, duration_counts)
    return None if bad is None else (bad, "durations", "must be 1 frame or more")


def _with_schema(table: pa.Table, path: Path | str, columns: Sequence[str]) -> pa.Table:
    """Return the columns in this order with the types of `SCHEMA`."""
    for name in columns:
        if table.column_names.count(name) != 1:
            found = "is there twice" if name in table.column_names else "is missing"
            raise ShardError(f"{path}: {name}: column {found}; prepare the corpus again")
    table = table.select(list(columns))
    for name in columns:
        if table[name].null_count:
            row = int(np.argmax(table[name].is_null().to_numpy()))
            raise ShardError(f"{path}: row {row}: {name}: is null; prepare the corpus again")
    try:
        table = table.cast(pa.schema([SCHEMA.field(name) for name in columns]))
    except (pa.ArrowException, ValueError) as error:
        raise ShardError(f"{path}: columns of another type ({error}); prepare again") from error
    for name in columns:
        if SCHEMA.field(name).type == _IDS and pc.list_flatten(table[name]).null_count:
            raise ShardError(f"{path}: {name}: holds a null; prepare the corpus again")
    return table


def _ragged(table: pa.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
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


def _first(wrong: np.ndarray) -> int | None:
    return int(np.argmax(wrong)) if wrong.any() else None


def _row_of_first(wrong: np.ndarray, lengths: np.ndarray) -> int | None:
    """Find the row of the first wrong one of the flat values."""
    return (
        int(np.repeat(np.arange(len(lengths)), lengths)[np.argmax(wrong)]) if wrong.any() else None
    )


def _first_bad_offsets(spans: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> int | None:
    """Find a row whose offsets do not rise from 0 to its length."""
    ends = np.cumsum(counts)
    wrong = (spans[ends - counts] != 0) | (spans[ends - 1] != lengths)
    falls = spans[1:] < spans[:-1]  # differences of 32 bits could wrap around
    falls[ends[:-1] - 1] = False  # from one row to the next the offsets restart
    rows = np.repeat(np.arange(len(counts)), counts)
    wrong[rows[1:][falls]] = True
    return _first(wrong)
