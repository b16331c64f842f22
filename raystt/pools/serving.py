"""What a worker of a trainer pool runs: take a job from the broker, train it, answer, repeat."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import torch
import torch.distributed as dist

from raystt.config import ResourcesConfig
from raystt.corpus.card import Card
from raystt.pools.broker import Assignment, NothingYet
from raystt.pools.ending import told_to_end
from raystt.pools.errors import Interrupted, JobFailed, answer
from raystt.pools.stream import stream_batches
from raystt.pools.stuck import unless_stuck
from raystt.training.device import device_of
from raystt.training.engine import join_process_group
from raystt.training.jobs import Preempted, SegmentJob, SegmentResult, Step
from raystt.training.segment import train_segment

# Steps are told to the broker at most this often: a remote call costs about a millisecond.
_REPORT_SECONDS = 1.0


def serve(slot: int, broker: Any, resources: ResourcesConfig) -> None:
    """Take jobs until there are no more. All workers of a group call this."""
    torch.set_num_threads(resources.threads_per_worker)
    device = device_of(resources.gpus_per_worker, "gpus_per_worker")
    rank, world_size = join_process_group(device)
    gc.freeze()  # what was imported stays: each segment's collection need not go through it
    data_cpus = resources.data_cpus / resources.trainers / world_size
    while True:
        given = _share(lambda: ray.get(broker.next_job.remote(slot)), rank, world_size)
        if given is None:
            return
        if isinstance(given, NothingYet):
            continue
        if rank == 0:
            broker.train.options(name=f"trainer-{slot}: {given.label}").remote(slot)
        outcome = _train(given, slot, broker, data_cpus, device, resources.patience)
        # Any rank may tell what was wrong; the broker takes the first that speaks.
        if rank == 0 or isinstance(outcome, Exception):
            ray.get(broker.finish.remote(slot, given.number, outcome))
        if isinstance(outcome, JobFailed | Interrupted) and world_size > 1:
            # The other ranks may hang in a collective: only a new group is sure to be whole.
            raise outcome


def _share(ask: Any, rank: int, world_size: int) -> Assignment | NothingYet | None:
    """Let rank 0 ask and tell the others."""
    box = [ask() if rank == 0 else None]
    if world_size > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def _train(
    given: Assignment,
    slot: int,
    broker: Any,
    cpus: float,
    device: str,
    patience: float,
) -> SegmentResult | Exception:
    """Train a segment; an error of the job's is returned, so that it fails one trial, not the pool.

    Raises:
        Preempted: The group starts again, elsewhere if its node is going.
        Exception: An error that may be the group's: it starts again.
    """
    told = 0.0

    def stuck() -> None:
        text = (
            f"no step for {patience:.0f} s (resources.patience; raise it if a state takes as long "
            "to write)"
        )
        ray.get(broker.stumbled.remote(slot, given.number, text), timeout=10)

    def on_step(step: Step) -> None:
        nonlocal told
        if time.monotonic() - told >= _REPORT_SECONDS:
            told = time.monotonic()
            broker.report.remote(slot, given.number, step)

    def on_checkpoint() -> None:
        ray.get(broker.saved.remote(slot, given.number))

    try:
        with unless_stuck(patience, stuck) as alive, told_to_end() as ends:

            def batches(job: SegmentJob, card: Card) -> Iterator[pa.Table]:
                for table in stream_batches(job, card, cpus=cpus, patience=patience):
                    alive()
                    yield table

            def ending() -> bool:
                alive()
                return ends()

            return train_segment(
                given.job, batches=batches, on_step=on_step, on_checkpoint=on_checkpoint,
                ending=ending, device=device,
            )  # fmt: skip
    except Preempted as preempted:
        ray.get(broker.stumbled.remote(slot, given.number, str(preempted)))
        raise
    except Exception as error:
        found = answer(error, given.job.states)
        if found is None:
            text = f"{type(error).__name__}: {error}"
            ray.get(broker.stumbled.remote(slot, given.number, text))
            raise
        return found
