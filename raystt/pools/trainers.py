"""Trainer pool: persistent Ray Train worker groups that serve segments of any trial.

Starting a worker group takes longer than training a short segment, so a group (a *slot*) starts
once and its training function loops over jobs that a broker hands out (`serving`). Train restarts a
group that lost a worker, and the broker hands it the unfinished segment again.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import ray

from raystt.cluster.train_group import worker_group
from raystt.config import ResourcesConfig
from raystt.pools.broker import Broker

_STOP_SECONDS = 20.0
_LAUNCH_SECONDS = 0.5  # what `fit()` takes, at most, to come to where a shutdown of Ray ends it


class TrainerPool:
    """`resources.trainers` slots of `resources.workers_per_trainer` workers each.

    Args:
        resources: Sizes of the pool.
        storage: Directory for Ray Train's own files.
    """

    def __init__(self, resources: ResourcesConfig, storage: Path) -> None:
        self.broker = (
            ray.remote(Broker).options(num_cpus=0, max_concurrency=1000).remote(resources.trainers)
        )
        self._size = resources.trainers
        self._errors: dict[int, BaseException] = {}
        self._started = self._stopping = False
        # `fit()` blocks as long as its group lives: a thread each, which only waits.
        self._threads = [
            threading.Thread(target=self._fit, args=(number, resources, str(storage)), daemon=True)
            for number in range(self._size)
        ]
        for thread in self._threads:
            thread.start()

    def _fit(self, number: int, resources: ResourcesConfig, storage: str) -> None:
        """Keep one worker group running until the broker says stop."""
        broker = self.broker

        def work() -> None:
            # Imports in the worker, so that the driver need not.
            from raystt.pools.serving import serve

            serve(number, broker, resources)

        group = worker_group(
            work, name=f"trainer-{number}", workers=resources.workers_per_trainer,
            cpus=resources.cpus_per_worker, gpus=resources.gpus_per_worker, storage=storage,
            restarts=-1,
        )  # fmt: skip
        try:
            # After the end, any call would start another Ray.
            if not self._stopping:
                group.fit()
        except BaseException as error:
            if not self._stopping:
                self._errors[number] = error
                ray.get(self.broker.lost.remote(number, str(error)))

    def __enter__(self) -> TrainerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Wait until every slot has asked for work.

        Raises:
            RuntimeError: A slot could not start.
            TimeoutError: A slot did not come up in time; the text says what to look at.
        """
        limit = time.monotonic() + timeout
        while ray.get(self.broker.ready.remote()) < self._size:
            for number, error in self._errors.items():
                raise RuntimeError(f"trainer {number} could not start: {error}") from error
            if time.monotonic() > limit:
                raise TimeoutError(
                    f"the trainers did not start within {timeout:.0f} s; see Ray's dashboard "
                    "for the resources that they wait for"
                )
            time.sleep(0.1)
        self._started = True

    def stop(self) -> None:
        """Let idle groups end; the others end with the driver's connection to Ray."""
        self._stopping = True
        idle = ray.get(self.broker.stop.remote()) if self._started else []
        for number, thread in enumerate(self._threads):
            thread.join(_STOP_SECONDS if number in idle else _LAUNCH_SECONDS)
