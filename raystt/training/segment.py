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
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import torch

from raystt import remote
from raystt.corpus.card import Card
from raystt.corpus.reading import local_batches, split_shards
from raystt.training.engine import Engine, join_process_group, resolve_precision
from raystt.training.jobs import MODEL, Preempted, SegmentJob, SegmentResult, Step
from raystt.training.log import TrainingLog
from raystt.training.model import context
from raystt.training.ranks import collect, on_any_rank, on_rank_0, shared_partial
from raystt.training.start import starting_model
from raystt.training.states import DONE, ENGINE, Checkpoints, engine_of, find, publish
from raystt.training.steps import Totals, train_steps

_TOTALS = "totals.json"
Batches = Callable[[SegmentJob, Card], Iterable[pa.Table]]


def segment_key(job: SegmentJob, card: Card, world_size: int, device: str = "cpu") -> str:
    """Return the hex key of a segment; equal keys give the same state."""
    training = job.run.training.model_dump(exclude={"log_every", "checkpoint_every"})
    training["precision"] = resolve_precision(training["precision"], device)
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
    on_checkpoint: Callable[[], None] = lambda: None,
    ending: Callable[[], bool] = lambda: False,
    device: str = "cpu",
) -> SegmentResult:
    """Train a segment, or return it if it is already there. All ranks of a group call this.

    Every `training.checkpoint_every` steps there is a checkpoint, from which a segment that was
    broken off goes on.

    Args:
        job: The segment.
        batches: Gives the global batches of the segment in order.
        on_step: Told of every step (rank 0).
        on_checkpoint: Told that there is another checkpoint (rank 0).
        ending: Whether this process is about to be ended; asked after every step. If one of the
            ranks is, there is a checkpoint and the segment is broken off.
        device: "cpu", or "cuda": the current GPU.

    Raises:
        Preempted: It was broken off because a rank is `ending`.
        StateLost: The parent state is damaged or gone, or its engine was dropped.
        CheckpointError: The parent state was written by another kind of group, or not by us.
        ModelError: There is no such base model, it does not go with the corpus, or a sequence is
            longer than its context.
        ValueError: The data ended early.
    """
    began = time.perf_counter()
    rank, world_size = join_process_group(device)
    card = Card.of_corpus(Path(job.corpus))
    state = Path(job.states) / segment_key(job, card, world_size, device)
    # One rank looks for all: a network file system shows a new file to some nodes before others,
    # and a rank that trains would wait for one that has returned.
    finished = on_rank_0(lambda: find(state))
    checkpoints = Checkpoints(state, job.log)
    if finished is not None:
        if rank == 0:
            checkpoints.drop()  # another trial has trained it since
        return finished
    checkpoint = on_rank_0(checkpoints.latest)
    before, totals, start = None, Totals(), job.start
    if checkpoint is not None:
        before, start = Path(checkpoint.state) / ENGINE, checkpoint.stop
    elif (parent := job.parent) is not None:
        before = on_rank_0(lambda: engine_of(Path(parent)))
    if before is not None:
        remote.fetch(before.parent, DONE)  # each node for itself
        if checkpoint is not None:
            totals = Totals(**json.loads((before / _TOTALS).read_text()))
    trained_before = totals.seconds
    training = job.run.training
    model = starting_model(job.run, Path(job.corpus), card)
    room = context(model)
    cooldown = (job.start, job.stop) if job.cooldown else None
    engine = Engine(model, training, training.steps, device, cooldown)
    place = Path(job.log) if job.log and rank == 0 else None
    log = TrainingLog(place, start, totals.tokens, totals.seconds)

    def result(place: Path, status: str, stop: int) -> SegmentResult:
        return SegmentResult(
            state=str(place),
            status=status,
            start=job.start,
            stop=stop,
            seconds=totals.seconds,
            setup_seconds=time.perf_counter() - began - (totals.seconds - trained_before),
            tokens=totals.tokens,
            loss=totals.loss,
            achieved_words=totals.words_text / max(totals.words_total, 1),
            achieved_tokens=totals.tokens_text / max(totals.tokens_total, 1),
            diverged_at=totals.diverged_at,
        )

    def save(trained: Engine, step: int) -> None:
        place = checkpoints.at(step)
        with shared_partial(place) as partial:
            trained.save(partial / ENGINE)
            if rank == 0:
                (partial / ENGINE / _TOTALS).write_text(json.dumps(asdict(totals)))
            log.put()
            collect(partial)
            on_rank_0(lambda: publish(partial, place, result(place, "unfinished", step)))
        if rank == 0:
            # One to go on from, and one for when that is damaged.
            checkpoints.drop(keep=2)
            on_checkpoint()

    try:
        if before is not None:
            engine.load(before)
        stream = iter(batches(replace(job, start=start), card))
        for step in train_steps(job, card, engine, stream, log, on_step, room, start, totals):
            ends = on_any_rank(ending(), device)
            if ends or (training.checkpoint_every and step % training.checkpoint_every == 0):
                save(engine, step)
            if ends:
                raise Preempted(
                    f"broken off after step {step} of {job.stop}: this process is to end"
                )
        with shared_partial(state) as partial:
            if totals.diverged_at is None:
                engine.export(partial / MODEL, Path(job.corpus) / card.tokenizer.path)
                if job.stop < training.steps and not job.cooldown:
                    engine.save(partial / ENGINE)
            log.put()
            collect(partial)
            found = result(
                state, "complete" if totals.diverged_at is None else "diverged", job.stop
            )
            on_rank_0(lambda: publish(partial, state, found))
        if rank == 0:
            checkpoints.drop()
    finally:
        engine.close()
        log.close()
        # Hooks tie engine and model into cycles, and a trainer goes on to its next segment: without
        # this, two or three models of a billion parameters would wait on the GPU to be collected.
        del engine, model
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return found
