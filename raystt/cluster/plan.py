"""`resources: auto`: the sizes of the pools from the nodes there are, and from those that join."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from raystt.cluster.capacity import pool_bundles, unplaced
from raystt.config import ResourcesConfig

Nodes = Sequence[Mapping[str, float]]
"""What each node has, "CPU" and "GPU", such as the `Resources` of `ray.nodes()`."""

_SMALLEST = 0.25  # of a CPU, that a worker takes


def planned(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig:
    """Return the resources with the sizes that suit the nodes, if they are to be found (`auto`).

    With GPUs each worker of a trainer has one, and one of eight is shared by two evaluators; of a
    single GPU trainer and evaluator have half each. Without, half of the CPUs train and a quarter
    score: a tiny model is trained about as fast as it is evaluated. The rest reads shards.

    Returns:
        Concrete resources; the smallest ones where nothing fits, for `make_room` to refuse.
    """
    if not resources.auto:
        return resources
    found = _with_gpus(resources, nodes) or _on_cpus(resources, nodes)
    return fitted(found, nodes)


def fitted(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig:
    """Return concrete resources with as many trainers and evaluators as the nodes hold.

    Each process keeps its size. Where not even one trainer finds room, nothing changes: its node
    may come back.
    """
    found = _of(resources, 1)
    if unplaced(pool_bundles(found), nodes):
        return resources
    while True:
        more = _of(found, found.trainers + 1)
        if unplaced(pool_bundles(more), nodes):
            break
        found = more
    # What a GPU has left scores, two evaluators a trainer at most.
    while found.gpus_per_evaluator and found.evaluators < 2 * found.trainers:
        more = found.model_copy(update={"evaluators": found.evaluators + 1})
        if unplaced(pool_bundles(more), nodes):
            break
        found = more
    return found


def _of(resources: ResourcesConfig, trainers: int) -> ResourcesConfig:
    """Return resources of so many trainers, and of evaluators that keep pace with them."""
    workers = trainers * resources.workers_per_trainer
    if resources.gpus_per_evaluator:
        share = workers * resources.gpus_per_worker / 7
        scoring = int(share / resources.gpus_per_evaluator)
    elif resources.gpus_per_worker:
        scoring = trainers
    else:
        scoring = workers
    each = resources.data_cpus / resources.trainers
    return resources.model_copy(update={
        "trainers": trainers, "evaluators": max(1, scoring),
        "data_cpus": each * trainers,
    })  # fmt: skip


def _with_gpus(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig | None:
    """Return the resources of one trainer on GPUs; None where there are none."""
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if not gpus:
        return None
    each = resources.workers_per_trainer
    share = min(n.get("CPU", 0.0) / int(n["GPU"]) for n in nodes if n.get("GPU", 0) >= 1)
    one = _rounded(share / 2)
    shared = gpus == each == 1
    return _one_trainer(
        resources, one, one / 4,
        gpus_per_worker=0.5 if shared else 1.0,
        gpus_per_evaluator=0.5 if shared or gpus > each else 0.0,
        cpus_per_evaluator=_rounded(one / 2),
        encoders=gpus, gpus_per_encoder=1.0, cpus_per_encoder=one,
    )  # fmt: skip


def _on_cpus(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig:
    """Return the resources of one trainer without GPUs, in the largest size that fits."""
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    one = _rounded(min(1.0, largest / 4))
    while True:
        found = _one_trainer(
            resources, one, one / 2,
            evaluators=resources.workers_per_trainer, cpus_per_evaluator=one / 2,
            encoders=max(1, int(cpus) - 1), cpus_per_encoder=1.0,
        )  # fmt: skip
        if one <= _SMALLEST or not unplaced(pool_bundles(found), nodes):
            return found
        one /= 2


def _one_trainer(
    resources: ResourcesConfig, cpus: float, reading: float, **sizes: float
) -> ResourcesConfig:
    """Return concrete resources of one trainer, whose workers have so many CPUs each."""
    return resources.model_copy(update={
        "auto": False, "trainers": 1, "evaluators": 1, "cpus_per_worker": cpus,
        "data_cpus": resources.workers_per_trainer * reading,
        "threads_per_worker": max(1, int(cpus)), **sizes,
    })  # fmt: skip


def _rounded(cpus: float) -> float:
    """Return whole CPUs, or a half or a quarter of one."""
    return float(int(cpus)) if cpus >= 1 else 0.5 if cpus >= 0.5 else _SMALLEST


def local_gpus() -> int:
    """Count NVIDIA's GPUs of this machine that are not hidden, without torch or Ray."""
    there = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if shown is None else min(there, len([one for one in shown.split(",") if one]))


def describe(resources: ResourcesConfig, nodes: Nodes) -> list[str]:
    """Say in a line each what nodes there are, and what the pools take of them."""
    r, workers = resources, resources.trainers * resources.workers_per_trainer
    cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    taken = pool_bundles(r)
    return [
        f"nodes: {len(nodes)}, with {cpus:g} CPUs and {gpus:g} GPUs",
        f"trainers: {r.trainers}, of {r.workers_per_trainer} workers ({r.cpus_per_worker:g} CPU, "
        f"{r.gpus_per_worker:g} GPU each)",
        f"evaluators: {r.evaluators} ({r.cpus_per_evaluator:g} CPU, {r.gpus_per_evaluator:g} GPU "
        "each)",
        f"tasks that read shards: {workers} ({r.data_cpus / workers:g} CPU each)",
        f"taken: {sum(b.cpus for b in taken):g} CPUs, {sum(b.gpus for b in taken):g} GPUs",
    ]
