"""What a worker of a trainer pool runs: take a job from the broker, train it, answer, repeat."""

from __future__ import annotations

import gc
import time
import traceback
from typing import Any

import ray
import torch
import torch.distributed as dist

from raystt.config import ResourcesConfig
from raystt.pools.broker import Assignment
from raystt.pools.stream import stream_batches
from raystt.training.device import device_of
from raystt.training.engine import join_process_group
from raystt.training.jobs import SegmentJob, SegmentResult, Step
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
        if rank == 0:
            broker.train.options(name=f"trainer-{slot}: {given.label}").remote(slot)
        outcome = _train(given.job, slot, broker, data_cpus, device)
        if rank == 0:
            ray.get(broker.finish.remote(slot, outcome))
        if isinstance(outcome, str) and world_size > 1:
            # The other ranks may hang in a collective: only a new group is sure to be whole.
            raise RuntimeError(outcome)


def _share(ask: Any, rank: int, world_size: int) -> Assignment | None:
    """Let rank 0 ask and tell the others."""
    box = [ask() if rank == 0 else None]
    if world_size > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def _train(
    job: SegmentJob, slot: int, broker: Any, cpus: float, device: str
) -> SegmentResult | str:
    """Train a segment; an error becomes its text, so that it fails one trial and not the pool."""
    told = 0.0

    def on_step(step: Step) -> None:
        nonlocal told
        if time.monotonic() - told >= _REPORT_SECONDS:
            told = time.monotonic()
            broker.report.remote(slot, step)

    try:
        return train_segment(
            job,
            batches=lambda j, card: stream_batches(j, card, cpus=cpus),
            on_step=on_step,
            device=device,
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
