"""The optimiser steps of a segment, one after the other, and what they add up to."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import torch

from raystt.corpus.card import Card
from raystt.training.batches import StepBatch, assembled
from raystt.training.engine import Engine
from raystt.training.jobs import SegmentJob, Step
from raystt.training.log import TrainingLog
from raystt.training.model import ModelError


@dataclass
class Totals:
    """Sums over the steps of a segment, and how it ended. `seconds` are those of the steps."""

    seconds: float = 0.0
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


def train_steps(
    job: SegmentJob,
    card: Card,
    engine: Engine,
    stream: Iterator[pa.Table],
    log: TrainingLog,
    on_step: Callable[[Step], None] | None,
    room: int,
    start: int,
    totals: Totals,
) -> Iterator[int]:
    """Do the steps of a segment from `start` on, up to the first loss that is not finite.

    A sequence may have `room` tokens: absolute positions end there, rotary ones are untrained.

    Yields:
        How many steps of the run are done, after each but the last.
    """
    run, training = job.run, job.run.training
    all_ratios = job.ratios()[start - job.start :]
    batches = assembled(
        itertools.takewhile(lambda table: table.num_rows == training.batch_utterances, stream),
        all_ratios,
        card=card,
        interleaving=run.interleaving,
        seed=run.seed,
        rank=engine.rank,
        world_size=engine.world_size,
        max_tokens=training.micro_batch_tokens,
    )
    for step, ratios in zip(range(start, job.stop), all_ratios, strict=True):
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            raise ValueError(f"the data of {run.language} ended at step {step} of {job.stop}")
        # Dropout must not depend on what this process did before.
        torch.manual_seed(hash((run.seed, step, engine.rank)))
        longest = max(part.longest for part in batch.micro_batches)
        if longest > room:
            raise ModelError(
                f"a sequence of {longest} tokens at step {step}, the model's context is {room}; "
                "choose a model.base with a longer one, or lower corpus.quality.max_seconds"
            )
        totals.loss = engine.step(batch)
        totals.add(batch)
        totals.seconds += time.perf_counter() - began
        if not math.isfinite(totals.loss):
            totals.diverged_at = step
            return
        achieved = batch.words_text / max(batch.words_total, 1)
        seen = Step(
            step + 1, training.steps, float(ratios.mean()), achieved, totals.loss, totals.tokens,
            totals.seconds,
        )  # fmt: skip
        if on_step is not None and engine.rank == 0:
            on_step(seen)
        if (step + 1) % training.log_every == 0 or step + 1 == job.stop:
            log.write(seen, batch, engine)
        if step + 1 < job.stop:
            yield step + 1
