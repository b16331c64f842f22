"""The watchdog over a stream's first batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from raystt.pools.stream import DataStalled, watched

BATCHES = [pa.table({"id": [n]}) for n in range(3)]


def test_a_stream_passes_unchanged() -> None:
    assert list(watched(iter(BATCHES), "corpus", 5.0)) == BATCHES
    assert list(watched(iter([]), "corpus", 5.0)) == []


def test_a_stalled_stream_is_refused_with_the_fix() -> None:
    def stalled() -> Iterator[pa.Table]:
        threading.Event().wait()
        yield BATCHES[0]

    with pytest.raises(DataStalled, match="corpus: .*raise resources.data_cpus"):
        next(watched(stalled(), "corpus", 0.2))


def test_an_error_of_the_stream_is_its_own() -> None:
    def broken() -> Iterator[pa.Table]:
        raise OSError("part-00000.parquet is damaged")
        yield BATCHES[0]

    with pytest.raises(OSError, match="part-00000.parquet"):
        next(watched(broken(), "corpus", 5.0))
