"""Evaluator pool: persistent actors with vocoder and recogniser loaded.

Ray restarts an actor that dies and runs its unfinished evaluation again.
"""

from __future__ import annotations

import asyncio
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ray

from raystt.config import EvaluationConfig, ResourcesConfig
from raystt.errors import BadInput
from raystt.evaluation.jobs import Ceiling, CeilingJob, Evaluation, EvaluationJob
from raystt.pools.broker import Activity, JobFailed, Served
from raystt.training.device import device_of

if TYPE_CHECKING:
    from raystt.evaluation.judge import Judge


class Evaluator:
    """Ray actor that holds one judge, loaded when it is first needed.

    Not in `__init__`: Ray would wrap what is wrong with it in the death of the actor.
    `number` tells it from the others in Ray's dashboard.
    """

    def __init__(
        self, number: int, corpus: str, config: EvaluationConfig, resources: ResourcesConfig
    ) -> None:
        self._number, self._corpus = number, corpus
        self._config, self._resources = config, resources

    @cached_property
    def _judge(self) -> Judge:
        # Here and not above: only this process needs torch, and its import takes seconds.
        import torch

        from raystt.evaluation.judge import Judge

        torch.set_num_threads(self._resources.threads_per_worker)
        device = device_of(self._resources.gpus_per_evaluator, "gpus_per_evaluator")
        return Judge(self._corpus, self._config, device=device)

    def __repr__(self) -> str:
        return f"evaluator-{self._number}"

    def evaluate(self, job: EvaluationJob | CeilingJob) -> Evaluation | Ceiling:
        """Evaluate a model on a split, or measure the ceiling of a split."""
        from raystt.evaluation.ceiling import measure_ceiling

        if isinstance(job, CeilingJob):
            return measure_ceiling(self._judge, job)
        return self._judge.evaluate(job)

    def ready(self) -> str:
        """Return the signature of the scores, once everything is loaded."""
        return self._judge.signature


class _Dispatcher:
    """Async actor that gives each evaluation to an idle evaluator, in the order they came."""

    def __init__(self, evaluators: list[Any]) -> None:
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        for evaluator in evaluators:
            self._idle.put_nowait(evaluator)
        self._running: list[str] = []

    def __repr__(self) -> str:
        return "evaluators' dispatcher"

    async def run(self, job: EvaluationJob | CeilingJob, label: str) -> Served:
        """Have a model evaluated, or a ceiling measured.

        Raises:
            JobFailed: The evaluation's own error.
        """
        began = time.monotonic()
        evaluator = await self._idle.get()
        wait = time.monotonic() - began
        self._running.append(label)
        try:
            evaluate = evaluator.evaluate.options(name=f"Evaluator.evaluate {label}")
            return Served(await evaluate.remote(job), wait)
        except ray.exceptions.RayError as error:
            raise JobFailed(f"{label}: evaluation failed: {error}") from None
        finally:
            self._running.remove(label)
            self._idle.put_nowait(evaluator)

    async def activity(self) -> list[Activity]:
        """Return what is being evaluated."""
        return [Activity(label, None) for label in self._running]


class EvaluatorPool:
    """`resources.evaluators` evaluation actors behind one dispatcher.

    Args:
        corpus: Directory of the prepared corpus.
        config: Names of the recogniser and the normaliser.
        resources: Sizes of the pool, and whether its actors have GPUs.
    """

    def __init__(self, corpus: str, config: EvaluationConfig, resources: ResourcesConfig) -> None:
        actor = ray.remote(Evaluator).options(
            num_cpus=resources.cpus_per_evaluator,
            num_gpus=resources.gpus_per_evaluator,
            # -1: an evaluation has no effect but its answer, so it may always be run again.
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy="DEFAULT",
        )
        self._actors = [
            actor.remote(number, corpus, config, resources)
            for number in range(resources.evaluators)
        ]
        self.dispatcher = (
            ray.remote(_Dispatcher).options(num_cpus=0, max_concurrency=1000).remote(self._actors)
        )

    def __enter__(self) -> EvaluatorPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_ready(self, timeout: float = 1800.0) -> str:
        """Wait until every evaluator has loaded its models and return the scores' signature.

        The first time on a machine, that includes the download of a recogniser of gigabytes.

        Raises:
            TimeoutError: An evaluator did not come up in time.
            BadInput: Its models cannot be loaded, or it was promised a GPU that is not there.
        """
        try:
            signatures = ray.get([a.ready.remote() for a in self._actors], timeout=timeout)
        except ray.exceptions.GetTimeoutError:
            raise TimeoutError(
                f"the evaluators did not start within {timeout:.0f} s; see Ray's dashboard"
            ) from None
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, BadInput):
                raise error.cause from None
            raise
        return str(signatures[0])

    def stop(self) -> None:
        """End the actors."""
        for actor in [*self._actors, self.dispatcher]:
            ray.kill(actor)
