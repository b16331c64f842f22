"""A segment of training: `(state, schedule, data, from_step, to_step) -> state'`.

A segment is a pure function of its key: the text ratios of its steps, the model, training
and interleaving settings, the seed, the corpus, and the state it starts from. Its result lies in
`states/<key>`; a segment found there is not trained again, which makes crash, resume and shared
prefixes the same thing (`states`).
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch

from raystt.corpus.card import Card
from raystt.corpus.reading import local_batches, split_shards
from raystt.files import remove
from raystt.training.batches import StepBatch, assemble
from raystt.training.engine import Engine, join_process_group
from raystt.training.jobs import SegmentJob, SegmentResult, Step
from raystt.training.log import TrainingLog
from raystt.training.model import ModelError, context
from raystt.training.start import starting_model
from raystt.training.states import engine_of, find, partial_of, publish

_T = TypeVar("_T")
Batches = Callable[[SegmentJob, Card], Iterable[pa.Table]]


def segment_key(job: SegmentJob, card: Card, world_size: int) -> str:
    """Return the hex key of a segment; equal keys give the same state."""
    training = job.run.training.model_dump(exclude={"log_every", "checkpoint_every"})
    parent = Path(job.parent).name if job.parent else "base"
    source, target = job.ratios().T.tolist()
    content = [
        "segment-3", parent, card.fingerprint, job.run.language, job.run.seed, world_size,
        job.run.model.model_dump(), training, job.run.interleaving.model_dump(),
        job.start, job.stop, source, *([] if source == target else [target]),
        *(["cooldown"] if job.cooldown else []),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def read_locally(job: SegmentJob, card: Card) -> Iterator[pa.Table]:
    """Read a segment's global batches in this process (the trainer without Ray)."""
    return local_batches(
        split_shards(Path(job.corpus), card, job.run.language, "train"),
        seed=job.run.seed,
        start_step=job.start,
        stop_step=job.stop,
        batch=job.run.training.batch_utterances,
    )


def train_segment(
    job: SegmentJob,
    *,
    batches: Batches = read_locally,
    on_step: Callable[[Step], None] | None = None,
    device: str = "cpu",
) -> SegmentResult:
    """Train a segment, or return it if it is already there. All ranks of a group call this.

    Args:
        job: The segment.
        batches: Gives the global batches of the segment in order.
        on_step: Told of every step (rank 0).
        device: "cpu", or "cuda": the current GPU.

    Raises:
        StateLost: The parent state is damaged or gone, or its engine was dropped.
        CheckpointError: The parent state was written by another kind of group, or not by us.
        ModelError: There is no such base model, it does not go with the corpus, or a sequence is
            longer than its context.
        ValueError: The data ended early.
    """
    began = time.perf_counter()
    rank, world_size = join_process_group(device)
    card = Card.load(Path(job.corpus))
    state = Path(job.states) / segment_key(job, card, world_size)
    # One rank looks for all: a network file system shows a new file to some nodes before others,
    # and a rank that trains would wait for one that has returned.
    finished = _on_rank_0(lambda: find(state))
    if finished is not None:
        return finished
    parent = Path(job.parent) if job.parent is not None else None
    before = _on_rank_0(lambda: engine_of(parent)) if parent is not None else None
    training = job.run.training
    model = starting_model(job.run, Path(job.corpus), card)
    room = context(model)
    cooldown = (job.start, job.stop) if job.cooldown else None
    engine = Engine(model, training, training.steps, device, cooldown)
    log = TrainingLog(Path(job.log) if job.log and rank == 0 else None, job.start)
    try:
        if before is not None:
            engine.load(before)
        stream = iter(batches(job, card))
        ready = time.perf_counter()
        totals = _train(job, card, engine, stream, log, on_step if rank == 0 else None, room)
        trained = time.perf_counter()
        with _partial(state, rank) as partial:
            if totals.diverged_at is None:
                engine.export(partial / "model", Path(job.corpus) / card.tokenizer.path)
                if job.stop < training.steps and not job.cooldown:
                    engine.save(partial / "engine")
            result = SegmentResult(
                state=str(state),
                status="complete" if totals.diverged_at is None else "diverged",
                start=job.start,
                stop=job.stop,
                seconds=trained - ready,
                setup_seconds=(ready - began) + (time.perf_counter() - trained),
                tokens=totals.tokens,
                loss=totals.loss,
                achieved_words=totals.words_text / max(totals.words_total, 1),
                achieved_tokens=totals.tokens_text / max(totals.tokens_total, 1),
                diverged_at=totals.diverged_at,
            )
            _on_rank_0(lambda: publish(partial, state, result))
    finally:
        engine.close()
        log.close()
        # Hooks tie engine and model into cycles, and a trainer goes on to its next segment: without
        # this, two or three models of a billion parameters would wait on the GPU to be collected.
        del engine, model
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return result


@dataclass
class _Totals:
    """Sums over the steps of a segment, and how it ended."""

    loss: float = math.nan
    diverged_at: int | None = None
    tokens: int = 0
    words_text: int = 0
    words_total: int = 0
    tokens_text: int = 0
    tokens_total: int = 0

    def add(self, batch: StepBatch) -> None:
        self.tokens += batch.tokens
        self.words_text += batch.words_text
        self.words_total += batch.words_total
        self.tokens_text += batch.tokens_text
        self.tokens_total += batch.tokens_total


def _train(
    job: SegmentJob,
    card: Card,
    engine: Engine,
    stream: Iterator[pa.Table],
    log: TrainingLog,
    on_step: Callable[[Step], None] | None,
    room: int,
) -> _Totals:
    """Do the steps of a segment, up to the first loss that is not finite.

    A sequence may have `room` tokens: absolute positions end there, rotary ones are untrained.
    """
    run, training = job.run, job.run.training
    totals = _Totals()
    began = time.perf_counter()
    for step, ratios in zip(range(job.start, job.stop), job.ratios(), strict=True):
        table = next(stream, None)
        if table is None or table.num_rows != training.batch_utterances:
            raise ValueError(f"the data of {run.language} ended at step {step} of {job.stop}")
        # Dropout must not depend on what this process did before.
        torch.manual_seed(hash((run.seed, step, engine.rank)))
        batch = assemble(
            table,
            ratios,
            card=card,
            interleaving=run.interleaving,
            seed=run.seed,
            rank=engine.rank,
            world_size=engine.world_size,
            max_tokens=training.micro_batch_tokens,
        )
        longest = max(part.longest for part in batch.micro_batches)
        if longest > room:
            raise ModelError(
                f"a sequence of {longest} tokens at step {step}, the model's context is {room}; "
                "choose a model.base with a longer one, or lower corpus.quality.max_seconds"
            )
        totals.loss = engine.step(batch)
        totals.add(batch)
        if not math.isfinite(totals.loss):
            totals.diverged_at = step
            break
        achieved = batch.words_text / max(batch.words_total, 1)
        seconds = time.perf_counter() - began
        ratio = float(ratios.mean())
        seen = Step(step + 1, training.steps, ratio, achieved, totals.loss, totals.tokens, seconds)
        if on_step is not None:
            on_step(seen)
        if (step + 1) % training.log_every == 0 or step + 1 == job.stop:
            log.write(seen, engine.learning_rate, batch)
    return totals


@contextmanager
def _partial(state: Path, rank: int) -> Iterator[Path]:
    """Yield a new directory for all ranks to write to, which does not outlive an error."""
    partial = _on_rank_0(lambda: partial_of(state))
    try:
        if rank == 0:
            partial.mkdir(parents=True)
        yield partial
    except BaseException:
        if rank == 0:
            remove(partial)
        raise


def _on_rank_0(ask: Callable[[], _T]) -> _T:
    """Ask on rank 0, and return its answer or raise its error on all ranks."""
    box: list[Any] = [None, None]
    if torch.distributed.get_rank() == 0:
        try:
            box[0] = ask()
        except Exception as error:
            box[1] = error
    torch.distributed.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    answer: _T = box[0]
    return answer
