"""Trainer pool: persistent Ray Train worker groups that serve segments of any trial.

Starting a worker group takes longer than training a short segment, so a group (a *slot*) starts
once and its training function loops over jobs that a broker hands out (`serving`). Train restarts a
group that lost a worker, and the broker hands it the unfinished segment again. A group whose
controller died is started anew.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from raystt import remote
from raystt.cluster.train_group import worker_group
from raystt.config import ResourcesConfig
from raystt.pools.broker import Broker
from raystt.pools.placing import Waiting, beside_driver

_STOP_SECONDS = 20.0
_STARTS = 2  # in a row, of a group that dies before it asks for work
_LAUNCH_SECONDS = 0.5  # what `fit()` takes, at most, to come to where a shutdown of Ray ends it


class TrainerPool:
    """`resources.trainers` slots of `resources.workers_per_trainer` workers each.

    Args:
        resources: Sizes of the pool.
        storage: Directory for Ray Train's own files; those of an earlier driver, which it would
            restore, are deleted, and these in the end.
        on_message: Told of groups that are lost, and of those that wait for a place.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        storage: Path,
        on_message: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.broker = (
            ray.remote(Broker)
            .options(num_cpus=0, max_concurrency=1000, **beside_driver())
            .remote(resources.trainers)
        )
        self._resources, self._storage, self._on_message = resources, storage, on_message
        self._errors: dict[int, BaseException] = {}
        self._started = self._stopping = False
        self._threads: list[threading.Thread] = []
        self._clear()
        self.grow(resources.trainers)

    def grow(self, count: int) -> None:
        """Start slots until there are `count`; the new ones are not waited for."""
        for number in range(len(self._threads), count):
            # `fit()` blocks as long as its group lives: a thread each, which only waits.
            self._threads.append(threading.Thread(target=self._keep, args=(number,), daemon=True))
            self._threads[-1].start()

    def introduce(self) -> None:
        """Tell the broker how many slots there are, so that one without a place is missed."""
        self.broker.expect.remote(len(self._threads))

    def _keep(self, number: int) -> None:
        """Keep one worker group running until the broker says stop."""
        died, asked = 0, 0
        for start in itertools.count():
            try:
                # After the end, any call would start another Ray.
                if not self._stopping:
                    self._group(number, start).fit()
                if self._stopping:
                    return
                # Its question was taken for one of the group before it: a broker that was just
                # started again may hear late that that one is gone.
            except BaseException as error:
                if self._stopping:
                    return
                with suppress(ray.exceptions.RayError):  # without a broker, nobody can be told
                    before, asked = asked, ray.get(self.broker.asks.remote(number))
                    # A broker that was started again counts from 0.
                    died = 1 if asked != before else died + 1
                    if died >= _STARTS or not self._started:
                        self._errors[number] = error
                        self._on_message(f"trainer {number} is given up: {_first_line(error)}")
                        ray.get(self.broker.lost.remote(number, _first_line(error)))
                        return
                    ray.get(self.broker.gone.remote(number, _first_line(error)))
                self._on_message(f"trainer {number} is started anew: {_first_line(error)}")

    def _group(self, number: int, start: int) -> Any:
        from ray.train import UserCallback

        broker, resources = self.broker, self._resources

        def work() -> None:
            # Imports in the worker, so that the driver need not.
            from raystt.pools.serving import serve

            serve(number, broker, resources)

        class Tell(UserCallback):  # type: ignore[misc]
            """Tells the broker that the group went down; of this file, so pickled by value."""

            def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
                reason = "; ".join(str(error) for error in worker_exceptions.values())
                broker.gone.remote(number, reason.strip().splitlines()[-1] if reason else "")

        return worker_group(
            work, name=f"trainer-{number}" + (f"-{start}" if start else ""),
            workers=resources.workers_per_trainer,
            cpus=resources.cpus_per_worker, gpus=resources.gpus_per_worker,
            storage=remote.named(self._storage), restarts=-1,
            callbacks=[Tell()],
        )  # fmt: skip

    def __enter__(self) -> TrainerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Wait until every slot has asked for work.

        Raises:
            RuntimeError: A slot could not start.
            TimeoutError: A slot found no place within `resources.patience`.
        """
        waiting = Waiting(self._resources, self._on_message)
        while ray.get(self.broker.ready.remote()) < self._resources.trainers:
            for number, error in self._errors.items():
                raise RuntimeError(f"trainer {number} could not start: {error}") from error
            absent = ray.get(self.broker.absences.remote())
            cause = waiting.look(absent, of=len(absent))
            if cause is not None:
                raise TimeoutError(cause)
            time.sleep(0.1)
        self._started = True

    def stop(self) -> None:
        """Let idle groups end, and end the others."""
        self._stopping = True
        # Told in any case: a group that is still starting would wait for work for ever.
        told = self.broker.stop.remote()
        idle = ray.get(told) if self._started else []
        for number, thread in enumerate(self._threads):
            thread.join(_STOP_SECONDS if number in idle else _LAUNCH_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            _end_controllers()
            for thread in self._threads:
                thread.join(_STOP_SECONDS)
        self._clear()

    def _clear(self) -> None:
        remote.delete(self._storage)
        shutil.rmtree(self._storage, ignore_errors=True)


def _end_controllers() -> None:
    """End the controllers of this driver's groups, so that nobody waits for them any more.

    A thread that is still within `fit()` when Ray is shut down takes the whole process with it.
    Ray Train gives nobody a handle of its controllers; they run beside the driver.
    """
    from ray.util.state import list_actors
    from ray.util.state.exception import RayStateApiException

    here = ray.get_runtime_context()
    mine = [("job_id", "=", here.get_job_id()), ("class_name", "=", "TrainController"),
            ("state", "=", "ALIVE")]  # fmt: skip
    # The dashboard may be gone; then all ends with the driver. Without an address it would look for
    # one on this machine, and give up where several clusters run.
    with suppress(RayStateApiException, OSError):
        for actor in list_actors(address=here.gcs_address, detail=True, filters=mine):
            os.kill(actor.pid, signal.SIGKILL)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
