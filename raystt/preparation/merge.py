"""Merge the small files of the pipeline's parts into the shards of a split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raystt.corpus.card import ShardEntry
from raystt.corpus.rows import Row, table_of
from raystt.corpus.shards import read_parquet, split_directory, write_parquet, write_table
from raystt.files import write_atomic
from raystt.readers.utterance import Quarantined

SHARD_BYTES = 96 << 20
"""A shard is closed when its parts take so many bytes: streamed well, listed fast."""

_QUARANTINED = b"quarantined"
_INDEX = "index.json"


@dataclass(frozen=True)
class Merged:
    """A finished split: its shards, the rows that the pipeline refused, and the parts it is of."""

    shards: tuple[ShardEntry, ...]
    quarantined: tuple[Quarantined, ...]
    parts: tuple[str, ...]


def write_part(path: Path, rows: Sequence[Row], quarantined: Sequence[Quarantined]) -> None:
    """Write the rows of a part, and what it refused, as one file that is whole or absent."""
    refused = json.dumps([asdict(one) for one in quarantined])
    table = table_of(rows).replace_schema_metadata({_QUARANTINED: refused.encode()})
    write_parquet(table, path)


def quarantined(path: Path) -> list[Quarantined]:
    """Return what a part refused."""
    metadata = pq.read_schema(path).metadata or {}
    return [Quarantined(**one) for one in json.loads(metadata[_QUARANTINED])]


def merge(
    corpus: Path,
    parts: Sequence[Path],
    language: str,
    split: str,
    most_rows: int,
    refused: Sequence[Quarantined],
) -> None:
    """Write the shards of a split from its parts, in order, and then their index.

    Args:
        corpus: directory of the corpus.
        parts: files of `write_part`.
        language: source language.
        split: "train", "dev" or "test".
        most_rows: rows of a shard at most.
        refused: what the parts refused, for the index.

    Raises:
        ShardError: a part is damaged.
    """
    folder = split_directory(language, split)
    shutil.rmtree(corpus / folder, ignore_errors=True)  # of rows that have changed since
    entries: list[ShardEntry] = []
    for number, table in enumerate(_tables(parts, most_rows)):
        path = f"{folder}/part-{number:05d}.parquet"
        write_table(table, corpus / path)
        entries.append(ShardEntry(path, table.num_rows))
    index = asdict(Merged(tuple(entries), tuple(refused), tuple(part.stem for part in parts)))
    write_atomic(corpus / folder / _INDEX, json.dumps(index) + "\n")


def merged(corpus: Path, language: str, split: str) -> Merged | None:
    """Return what `merge` wrote, None before it is done or where a shard is gone."""
    path = corpus / split_directory(language, split) / _INDEX
    if not path.exists():
        return None
    index = json.loads(path.read_text(encoding="utf-8"))
    shards = tuple(ShardEntry(**entry) for entry in index["shards"])
    if not all((corpus / entry.path).exists() for entry in shards):
        return None
    return Merged(
        shards, tuple(Quarantined(**one) for one in index["quarantined"]), tuple(index["parts"])
    )


def forget(corpus: Path, parts: Sequence[Path], language: str, split: str) -> None:
    """Have a split merged again, and its parts with refused rows made again."""
    (corpus / split_directory(language, split) / _INDEX).unlink(missing_ok=True)
    for path in parts:
        if path.exists() and quarantined(path):
            path.unlink()


def _tables(parts: Sequence[Path], most_rows: int) -> Iterator[pa.Table]:
    """Yield the tables of the shards; where they are cut depends on the parts alone."""
    waiting: list[pa.Table] = []
    held, size = 0, 0
    fix = "delete it and run `raystt prepare` again"
    for path in parts:
        table = read_parquet(path, fix).replace_schema_metadata(None)
        while table.num_rows:
            taken = table.slice(0, most_rows - held)
            waiting.append(taken)
            held += taken.num_rows
            table = table.slice(taken.num_rows)
            size += path.stat().st_size if not table.num_rows else 0
            if held >= most_rows or size >= SHARD_BYTES:
                yield pa.concat_tables(waiting)
                waiting, held, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)
