"""Where the actors of the pools run, and what is told of workers that found no place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raystt.config import ResourcesConfig
from raystt.pools.broker import Absence

_TOLD_SECONDS = 60.0


def beside_driver() -> dict[str, Any]:
    """Return the options of an actor that all depends on: no node but the driver's can cost it.

    Killed, it is started again and the calls that it owes an answer are repeated.
    """
    node = ray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return {"scheduling_strategy": strategy, "max_restarts": -1, "max_task_retries": -1}


class Waiting:
    """Tells of workers that are not there, each once a minute, and says when to give up.

    Args:
        resources: What a worker needs, and how long it is waited for.
        on_message: Told that one waits, for what, and what the cluster has.
    """

    def __init__(self, resources: ResourcesConfig, on_message: Callable[[str], None]) -> None:
        self._resources, self._on_message = resources, on_message
        self._told: dict[str, float] = {}

    def look(self, absences: Sequence[Absence], *, of: int) -> str | None:
        """Tell of the absences that are news.

        Args:
            absences: Workers of one pool that are not there.
            of: How many the pool has.

        Returns:
            Why to give up: all of them have been away for longer than `resources.patience`.
        """
        for absence in absences:
            before = self._told.get(absence.worker, 0.0)
            if absence.seconds < before:
                before = 0.0  # it was back meanwhile
            self._told[absence.worker] = before
            if absence.seconds >= before + _TOLD_SECONDS:
                self._told[absence.worker] = absence.seconds
                self._on_message(self._sentence(absence))
        if len(absences) < of or not absences:
            return None
        shortest = min(absences, key=lambda absence: absence.seconds)
        if shortest.seconds < self._resources.patience:
            return None
        return f"{self._sentence(shortest)}; resources.patience is over"

    def _sentence(self, absence: Absence) -> str:
        """Say who waits how long for what, and what the cluster has of it."""
        resources = self._resources
        if absence.worker.startswith("trainer"):
            workers = resources.workers_per_trainer
            cpus, gpus = resources.cpus_per_worker, resources.gpus_per_worker
        else:
            workers, cpus, gpus = 1, resources.cpus_per_evaluator, resources.gpus_per_evaluator
        each = f"{workers} times " if workers > 1 else ""
        needs = [f"{cpus:g} CPU"] + ([f"{gpus:g} GPU"] if gpus else [])
        whole, free = ray.cluster_resources(), ray.available_resources()
        has = [
            f"{free.get(kind, 0.0):g} of {whole.get(kind, 0.0):g} {kind} free"
            for kind in ("CPU", "GPU") if kind == "CPU" or gpus
        ]  # fmt: skip
        reason = f" ({absence.reason})" if absence.reason else ""
        enough = all(
            free.get(kind, 0.0) >= workers * wanted
            for kind, wanted in (("CPU", cpus), ("GPU", gpus))
        )
        # A busy machine takes minutes to start a process: that is no lack of anything.
        what = "has been starting" if enough and not reason else "has waited"
        return (
            f"{absence.worker} {what} for {absence.seconds:.0f} s; it needs "
            f"{each}{' and '.join(needs)}, the cluster has {', '.join(has)}{reason}"
        )
