"""Ray Data streams a segment's global batches from the shards.

Every worker streams the same batches in the same order (`corpus.order`) and takes its share of
each (`training.batches`). Blocks that a splitter hands to whichever rank asks first would make the
order depend on timing; rows of units are small enough that reading them on each rank costs less
than keeping ranks in step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
import ray.exceptions

from raystt.corpus.card import Card, CardError
from raystt.corpus.order import Piece, pieces
from raystt.corpus.reading import read_piece, split_shards
from raystt.pools.errors import Interrupted
from raystt.training.jobs import SegmentJob


class DataStalled(Interrupted):
    """Ray Data gave no first batch in time: nobody left it a CPU."""


def stream_batches(
    job: SegmentJob, card: Card, *, cpus: float, patience: float
) -> Iterator[pa.Table]:
    """Yield the global batches of a segment, read by Ray Data tasks of `cpus` CPUs each.

    Raises:
        DataStalled: No batch came within `patience` seconds.
        Exception: Whatever the shards' reader raises.
    """
    batch = job.run.training.batch_utterances
    corpus = Path(job.corpus)
    shards = split_shards(corpus, card, job.run.language, "train")
    rows = [count for _, count in shards]
    seed = job.run.seed
    plan = [
        {"shard": p.shard, "epoch": p.epoch, "start": p.start, "stop": p.stop}
        for p in pieces(rows, seed, job.start * batch, job.stop * batch)
    ]

    def read(block: dict[str, Any]) -> pa.Table:
        if Card.of_corpus(corpus).fingerprint != card.fingerprint:
            raise CardError(f"{corpus}: was prepared anew while it is trained on; start again")
        tables = []
        for values in zip(*(block[k] for k in ("shard", "epoch", "start", "stop")), strict=True):
            piece = Piece(*(int(v) for v in values))
            path, count = shards[piece.shard]
            tables.append(read_piece(path, piece, count, seed))
        return pa.concat_tables(tables)

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    # A task for every few thousand rows: small corpora would drown in tasks of one epoch each.
    total = (job.stop - job.start) * batch
    tasks = min(len(plan), max(2, total // 10_000))
    dataset = ray.data.from_items(plan, override_num_blocks=tasks).map_batches(
        read, batch_size=None, num_cpus=cpus
    )
    stream = iter(
        dataset.iter_batches(
            batch_size=batch, batch_format="pyarrow", prefetch_batches=4, drop_last=False
        )
    )
    what = f"{job.corpus}, language {job.run.language!r}"
    try:
        yield from watched(stream, what, patience)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # what a shard's reader says: whose fault it is hangs on it


def watched(stream: Iterator[pa.Table], what: str, seconds: float) -> Iterator[pa.Table]:
    """Pass a stream on, but refuse to wait longer than `seconds` for its first batch.

    With no CPU left, Ray Data waits in silence for ever: only the first batch can tell.

    Raises:
        DataStalled: The first batch did not come in time.
    """
    answers: queue.Queue[pa.Table | BaseException | None] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(next(stream, None))
        except BaseException as error:
            answers.put(error)

    # A daemon: the thread of a stalled stream never ends, and nobody may wait for it.
    threading.Thread(target=ask, daemon=True).start()
    try:
        first = answers.get(timeout=seconds)
    except queue.Empty:
        raise DataStalled(
            f"{what}: Ray Data gave no batch within {seconds:.0f} s (resources.patience); no CPU "
            "may be left for it: raise resources.data_cpus or lower resources.trainers"
        ) from None
    if isinstance(first, BaseException):
        raise first
    if first is not None:
        yield first
        yield from stream
