"""What the rows of a shard keep to: columns and types, and offsets that cover tokens and units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystt.corpus.card import SIDES
from raystt.corpus.rows import IDS, SCHEMA, column, of_side, ragged
from raystt.errors import BadInput


class ShardError(BadInput, ValueError):
    """A shard that is missing or damaged; the text names file, row, column and fix."""


def validate(table: pa.Table, path: Path | str) -> None:
    """Check columns, types, and that offsets cover tokens and units of every row.

    Raises:
        ShardError: naming the file, the row and the column.
    """
    table = with_schema(table, path, SCHEMA.names)
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
    words = ragged(held, "token_offsets")[1]
    for kind, offsets in (("tokens", "token_offsets"), ("units", "unit_offsets")):
        values, lengths = ragged(held, kind)
        spans, counts = ragged(held, offsets)
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
    durations, duration_counts = ragged(held, "durations")
    bad = _first(duration_counts != ragged(held, "units")[1])
    if bad is not None:
        return bad, "durations", "must have one value a unit"
    bad = _row_of_first(durations < 1, duration_counts)
    return None if bad is None else (bad, "durations", "must be 1 frame or more")


def with_schema(table: pa.Table, path: Path | str, columns: Sequence[str]) -> pa.Table:
    """Return the columns in this order with the types of `SCHEMA`.

    Raises:
        ShardError: one is missing, of another type, or holds a null; file and column are named.
    """
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
        if SCHEMA.field(name).type == IDS and pc.list_flatten(table[name]).null_count:
            raise ShardError(f"{path}: {name}: holds a null; prepare the corpus again")
    return table


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
