"""`resources: auto`: the sizes of the pools from the nodes there are, and from those that join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raystt.cluster.capacity import pool_bundles, unplaced
from raystt.config import ResourcesConfig

Nodes = Sequence[Mapping[str, float]]
"""What each node has, "CPU" and "GPU", such as the `Resources` of `ray.nodes()`."""


def planned(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig:
    """Return the resources with the sizes that suit the nodes, if they are to be found (`auto`).

    With GPUs each worker has one, and one of eight is shared by two evaluators; of a single GPU
    trainer and evaluator have half each. Without, half of the CPUs train and a quarter score: a
    tiny model is trained about as fast as it is evaluated. The rest reads shards.

    Returns:
        Concrete resources; the smallest ones where nothing fits, for `make_room` to refuse.
    """
    if not resources.auto:
        return resources
    found = _sizes(resources, nodes)
    while found.trainers > 1 and unplaced(pool_bundles(found), nodes):
        found = found.model_copy(update={"trainers": found.trainers - 1})
    return found


def grown(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig:
    """Return planned resources with more trainers and evaluators, as far as the nodes hold them.

    Each process keeps its size; the evaluators keep pace with the trainers. Fewer nodes change
    nothing: what was lost waits for another node, and the others take over its work.
    """
    found, ratio = resources, resources.evaluators / resources.trainers
    while True:
        trainers = found.trainers + 1
        more = found.model_copy(update={
            "trainers": trainers,
            "evaluators": max(found.evaluators, int(ratio * trainers)),
            "data_cpus": resources.data_cpus / resources.trainers * trainers,
        })  # fmt: skip
        if unplaced(pool_bundles(more), nodes):
            return found
        found = more


def _sizes(resources: ResourcesConfig, nodes: Nodes) -> ResourcesConfig:
    each = resources.workers_per_trainer
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    if gpus:
        with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
        share = min(node.get("CPU", 0.0) / int(node["GPU"]) for node in with_gpus)
        one = _rounded(share / 2)
        scoring = max(1, gpus // 8)
        if gpus > each:
            sizes = {
                "trainers": max(1, (gpus - scoring) // each), "gpus_per_worker": 1.0,
                "evaluators": 2 * scoring, "gpus_per_evaluator": 0.5,
                "cpus_per_evaluator": _rounded(one / 2),
            }  # fmt: skip
        else:  # as many as one trainer needs, or fewer
            shared = each == 1
            sizes = {
                "trainers": 1, "gpus_per_worker": 0.5 if shared else 1.0,
                "evaluators": 1, "gpus_per_evaluator": 0.5 if shared else 0.0,
                "cpus_per_evaluator": _rounded(one / 2),
            }  # fmt: skip
        workers = sizes["trainers"] * each
        sizes |= {
            "cpus_per_worker": one, "data_cpus": workers * one / 4,
            "encoders": gpus, "gpus_per_encoder": 1.0, "cpus_per_encoder": one,
        }  # fmt: skip
    else:
        one = _rounded(min(1.0, max((n.get("CPU", 0.0) for n in nodes), default=0.0) / 4))
        trainers = max(1, int(cpus / 2 / one / each))
        sizes = {
            "trainers": trainers, "cpus_per_worker": one,
            "evaluators": trainers, "cpus_per_evaluator": one / 2,
            "data_cpus": trainers * each * one / 2,
            "encoders": max(1, int(cpus) - 1), "cpus_per_encoder": 1.0,
        }  # fmt: skip
    sizes["threads_per_worker"] = max(1, int(sizes["cpus_per_worker"]))
    return resources.model_copy(update={"auto": False, **sizes})


def _rounded(cpus: float) -> float:
    """Return whole CPUs, or a quarter or a half of one."""
    return float(int(cpus)) if cpus >= 1 else 0.5 if cpus >= 0.5 else 0.25


def describe(resources: ResourcesConfig, nodes: Nodes) -> list[str]:
    """Say in a line each what nodes there are, and what the pools take of them."""
    r, workers = resources, resources.trainers * resources.workers_per_trainer
    cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    taken = pool_bundles(r)
    return [
        f"{len(nodes)} nodes: {cpus:g} CPUs, {gpus:g} GPUs",
        f"{r.trainers} trainers x {r.workers_per_trainer} workers ({r.cpus_per_worker:g} CPU, "
        f"{r.gpus_per_worker:g} GPU each)",
        f"{r.evaluators} evaluators ({r.cpus_per_evaluator:g} CPU, {r.gpus_per_evaluator:g} GPU "
        "each)",
        f"{workers} tasks that read shards ({r.data_cpus / workers:g} CPU each)",
        f"taken: {sum(b.cpus for b in taken):g} CPUs, {sum(b.gpus for b in taken):g} GPUs",
    ]
