"""Shards: Parquet files of rows, written whole, with checksums, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raystt.corpus.card import Card
from raystt.corpus.rows import SCHEMA, Row, table_of
from raystt.corpus.rules import ShardError, check_rows, validate, with_schema
from raystt.files import replacing
from raystt.interleaving.rules import utterance_key


def split_directory(language: str, split: str) -> str:
    """Return the directory of a split's shards, relative to the corpus."""
    return f"shards/language={language}/split={split}"


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
    return with_schema(table, path, columns)
