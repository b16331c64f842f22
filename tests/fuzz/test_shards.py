"""Parquet shards: damaged bytes, and tables of another kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given
from hypothesis import strategies as st

from raystt.corpus.card import Card, ShardEntry
from raystt.corpus.reading import local_batches, split_shards
from raystt.corpus.rows import SCHEMA, table_of
from raystt.corpus.rules import ShardError
from raystt.corpus.shards import read_rows
from raystt.errors import BadInput
from raystt.interleaving.rules import Interleaving
from raystt.training.batches import assemble
from tests.corpus.test_card import make_card
from tests.corpus.test_shards import make_rows
from tests.fuzz.harness import damaged, fuzzed, outcome

_ROWS = 6
_NAME = "part.parquet"
_TABLE = table_of(make_rows(_ROWS))


def card(rows: int) -> Card:
    split = replace(make_card().languages["es"]["train"], shards=(ShardEntry(_NAME, rows),))
    return replace(make_card(), languages={"es": {"train": split}})


def stored(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


_WHOLES = [
    stored(_TABLE, compression="zstd"),
    stored(_TABLE, compression="none", use_dictionary=False),
    stored(_TABLE, compression="snappy", data_page_version="2.0"),
]
_TOKENS = (b"PAR1", b"\0" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"ARROW:schema", b"")


def used(directory: Path, rows: int) -> None:
    """Read a shard as an evaluator does and as a trainer does."""
    known = card(rows)
    table = read_rows(directory, known, "es", "train", 4)
    assert table.schema.equals(SCHEMA)
    table["source_text"].to_pylist()
    shards = split_shards(directory, known, "es", "train")
    for batch in local_batches(shards, seed=1, start_step=0, stop_step=3, batch=4):
        assemble(
            batch, 0.5, card=known, interleaving=Interleaving(), seed=1, rank=0, world_size=1,
            max_tokens=100,
        )  # fmt: skip


@fuzzed
@given(data=damaged(_WHOLES, _TOKENS) | damaged(_WHOLES[:1], _TOKENS) | st.binary())
@example(data=b"")
@example(data=b"PAR1PAR1")
@example(data=stored(_TABLE.slice(0, 3)))
@example(data=stored(pa.table({})))
def test_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / _NAME
    path.write_bytes(data)
    outcome("shards, bytes", lambda: used(tmp_path, _ROWS), ShardError, [path])


_INTS = st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 8), max_size=6)
_KINDS = (
    pa.int64(), pa.int8(), pa.float32(), pa.string(), pa.large_string(), pa.binary(), pa.null(),
    pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.float32()),
    pa.list_(pa.int32(), 3), pa.list_(pa.string()), pa.struct([("x", pa.int32())]), pa.bool_(),
    pa.timestamp("s"),
    pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.list_(pa.int32())), pa.uint64(),
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table of the right columns but for some that are dropped, doubled, moved or other."""
    table = _TABLE
    for _ in range(draw(st.integers(1, 3))):
        if not table.num_columns:
            break
        at = draw(st.integers(0, table.num_columns - 1))
        name = table.column_names[at]
        kind = draw(st.sampled_from(("drop", "double", "move", "rename", "type", "rows", "ints")))
        if kind == "drop":
            table = table.remove_column(at)
        elif kind == "double":
            table = table.append_column(name, table.column(at))
        elif kind == "move":
            moved = table.column(at)
            table = table.remove_column(at).append_column(name, moved)
        elif kind == "rename":
            names = table.column_names
            names[at] = draw(st.text(max_size=5))
            table = table.rename_columns(names)
        elif kind == "type":
            other = draw(st.sampled_from(_KINDS))
            table = table.set_column(at, name, other_values(table.column(at), other))
        elif kind == "rows":
            first = draw(st.integers(0, table.num_rows))
            table = table.slice(first, draw(st.integers(0, _ROWS)))
        elif getattr(table.column(at).type, "value_type", None) == pa.int32() and table.num_rows:
            values = table.column(at).to_pylist()
            row = draw(st.integers(0, len(values) - 1))
            values[row] = draw(_INTS | st.none() | st.just([None, 1]))
            table = table.set_column(at, name, pa.array(values, pa.list_(pa.int32())))
    return table


def other_values(values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    try:
        return values.combine_chunks().cast(kind)
    except (pa.ArrowException, ValueError):
        return pa.nulls(len(values), kind)


@fuzzed
@given(table=tables())
def test_tables(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / _NAME
    path.write_bytes(stored(table))
    outcome("shards, tables", lambda: used(tmp_path, table.num_rows), BadInput, [tmp_path])
