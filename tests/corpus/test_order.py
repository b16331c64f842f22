"""The order of utterances: every epoch a permutation, the same however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystt.corpus.order import piece_rows, pieces

SHARDS = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda rows: sum(rows) > 0)


def stream(rows: list[int], seed: int, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Return (epoch, shard, row) of each position."""
    return [
        (piece.epoch, piece.shard, row)
        for piece in pieces(rows, seed, start, stop)
        for row in piece_rows(piece, rows[piece.shard], seed).tolist()
    ]


@given(rows=SHARDS, seed=st.integers(0, 2**31), epochs=st.integers(1, 3))
def test_each_epoch_is_a_permutation(rows: list[int], seed: int, epochs: int) -> None:
    total = sum(rows)
    seen = stream(rows, seed, 0, epochs * total)
    everything = {(shard, row) for shard, count in enumerate(rows) for row in range(count)}
    for epoch in range(epochs):
        part = seen[epoch * total : (epoch + 1) * total]
        assert {place[0] for place in part} == {epoch}
        assert {place[1:] for place in part} == everything


@given(rows=SHARDS, seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_cutting_the_stream_changes_nothing(rows: list[int], seed: int, cuts: list[int]) -> None:
    borders = sorted({0, 40, *cuts})
    parts = [stream(rows, seed, a, b) for a, b in zip(borders, borders[1:], strict=False)]
    assert sum(parts, []) == stream(rows, seed, 0, 40)


def test_epochs_and_seeds_differ() -> None:
    first = [row for _, _, row in stream([50], 1, 0, 100)]
    assert first[:50] != first[50:]
    assert first[:50] != [row for _, _, row in stream([50], 2, 0, 50)]
    assert np.mean(np.array(first[:50]) == np.arange(50)) < 0.3


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="no utterances"):
        list(pieces([0], 1, 0, 1))
