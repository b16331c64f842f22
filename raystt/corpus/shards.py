"""Shards: Parquet files of sentence pairs, and the ragged arrays that training reads from them.

A row is one pair. Words are alignment groups (one or several orthographic words); the two offset
lists of a side say which tokens and which units belong to each. Rows of the split `text` carry no
units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raystt.corpus.card import Card
from raystt.errors import BadInput
from raystt.files import replacing
from raystt.interleaving.rules import utterance_key
from raystt.interleaving.sequences import Side

_IDS = pa.list_(pa.field("item", pa.int32(), nullable=False))


def _side_fields(side: str) -> list[pa.Field]:
    return [
        pa.field(f"{side}_text", pa.string(), nullable=False),
        pa.field(f"{side}_tokens", _IDS, nullable=False),
        pa.field(f"{side}_token_offsets", _IDS, nullable=False),
        pa.field(f"{side}_units", _IDS, nullable=False),
        pa.field(f"{side}_durations", _IDS, nullable=False),
        pa.field(f"{side}_unit_offsets", _IDS, nullable=False),
        pa.field(f"{side}_seconds", pa.float32(), nullable=False),
    ]


SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *_side_fields("source"),
        *_side_fields("target"),
    ]
)


class ShardError(BadInput, ValueError):
    """A shard that is missing or damaged; the text names file, row, column and fix."""


def split_directory(language: str, split: str) -> str:
    """Return the directory of a split's shards, relative to the corpus."""
    return f"shards/language={language}/split={split}"


def write_shard(rows: Iterable[Mapping[str, Any]], path: Path | str) -> None:
    """Write rows (mappings with the columns of `SCHEMA`) atomically; equal rows, equal bytes.

    Raises:
        ShardError: a row breaks a rule of `validate`, or lacks a column.
    """
    path = Path(path)
    rows = list(rows)
    try:
        columns = {f.name: pa.array([r[f.name] for r in rows], type=f.type) for f in SCHEMA}
    except KeyError as error:
        raise ShardError(f"{path}: a row has no column {error}") from None
    write_table(pa.table(columns, schema=SCHEMA), path)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table with the columns of `SCHEMA`; see `write_shard`."""
    validate(table, path)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


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
    tables = [_read(Path(directory) / s.path) for s in card.split(language, split).shards]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    if limit is None:
        return table
    keys = np.array([utterance_key(name) for name in table["id"].to_pylist()], np.uint64)
    return table.take(np.argsort(keys)[:limit])


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise ShardError(
            f"{path}: the shard named in card.json is missing; delete card.json and run "
            "`raystt prepare` again"
        ) from None
    except pa.ArrowException as error:
        raise ShardError(
            f"{path}: not a readable Parquet file ({error}); delete it and card.json, then "
            "run `raystt prepare` again"
        ) from error
    return _with_schema(table, path)


def side(table: pa.Table, which: Literal["source", "target"], unit_token_offset: int) -> Side:
    """Turn one side of the rows of a table into ragged arrays.

    Args:
        table: rows with the columns of `SCHEMA` (a slice or several chunks are fine).
        which: "source" or "target".
        unit_token_offset: token id of unit 0 (`card.tokenizer.unit_offset`).

    Returns:
        A `Side` whose `units` are token ids.
    """
    text, text_lengths = _ragged(table, f"{which}_tokens")
    units, unit_lengths = _ragged(table, f"{which}_units")
    text_starts, counts = _ragged(table, f"{which}_token_offsets")
    unit_starts, _ = _ragged(table, f"{which}_unit_offsets")
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
    table = _with_schema(table, path)

    def refuse(row: int, column: str, reason: str) -> None:
        name = table.column("id")[row].as_py()
        raise ShardError(
            f"{path}: row {row} (id {name!r}): {column}: {reason}; prepare the corpus again"
        )

    if len(pc.unique(table.column("id"))) != len(table):
        counts = pc.value_counts(table.column("id"))
        names = [c["values"] for c in counts.to_pylist() if c["counts"] > 1]
        raise ShardError(f"{path}: id: {names[0]!r} appears more than once; prepare again")
    for which in ("source", "target"):
        words = _ragged(table, f"{which}_token_offsets")[1]
        for kind, offsets in (("tokens", "token_offsets"), ("units", "unit_offsets")):
            values, lengths = _ragged(table, f"{which}_{kind}")
            spans, counts = _ragged(table, f"{which}_{offsets}")
            bad = _first(counts != words) if kind == "units" else _first(counts < 2)
            if bad is not None:
                refuse(
                    bad,
                    f"{which}_{offsets}",
                    f"has {counts[bad]} values; "
                    f"{which}_token_offsets has {words[bad]} and needs at least two",
                )
            bad = _first_bad_offsets(spans, counts, lengths)
            if bad is not None:
                refuse(
                    bad, f"{which}_{offsets}", f"must rise from 0 to the number of {which}_{kind}"
                )
            if values.size and values.min() < 0:
                row = int(np.repeat(np.arange(len(lengths)), lengths)[np.argmin(values)])
                refuse(row, f"{which}_{kind}", "has a negative id")
        durations, duration_counts = _ragged(table, f"{which}_durations")
        bad = _first(duration_counts != _ragged(table, f"{which}_units")[1])
        if bad is not None:
            refuse(bad, f"{which}_durations", "must have one value a unit")
        if durations.size and durations.min() < 1:
            row = int(
                np.repeat(np.arange(len(duration_counts)), duration_counts)[np.argmin(durations)]
            )
            refuse(row, f"{which}_durations", "must be 1 frame or more")


def _with_schema(table: pa.Table, path: Path | str) -> pa.Table:
    absent = [name for name in SCHEMA.names if name not in table.column_names]
    if absent:
        raise ShardError(f"{path}: {absent[0]}: column is missing; prepare the corpus again")
    table = table.select(SCHEMA.names)
    for column in SCHEMA.names:
        if table[column].null_count:
            row = int(np.argmax(table[column].is_null().to_numpy()))
            raise ShardError(f"{path}: row {row}: {column}: is null; prepare the corpus again")
    try:
        return table.cast(SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise ShardError(f"{path}: columns of another type ({error}); prepare again") from error


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


def _first_bad_offsets(spans: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> int | None:
    """Find a row whose offsets do not rise from 0 to its length."""
    ends = np.cumsum(counts)
    wrong = (spans[ends - counts] != 0) | (spans[ends - 1] != lengths)
    falls = np.diff(spans) < 0
    falls[ends[:-1] - 1] = False  # from one row to the next the offsets restart
    rows = np.repeat(np.arange(len(counts)), counts)
    wrong[rows[1:][falls]] = True
    return _first(wrong)
