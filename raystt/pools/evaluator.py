"""An evaluation actor, with vocoder and recogniser loaded."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from raystt import remote
from raystt.config import EvaluationConfig, ResourcesConfig
from raystt.evaluation.jobs import Ceiling, CeilingJob, Evaluation, EvaluationJob
from raystt.files import remove
from raystt.hub import MODEL_CONFIG
from raystt.pools.errors import answer
from raystt.training.device import device_of
from raystt.training.states import DONE, let_go, model_of

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

    @ray.method(concurrency_group="control", max_task_retries=-1, enable_task_events=False)
    def ping(self) -> int:
        """Answer beside an evaluation; the number grows while one makes progress."""
        return self._judge.done if "_judge" in vars(self) else 0

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
        """Evaluate a model on a split, or measure the ceiling of a split.

        Raises:
            JobFailed: It cannot be done.
            StateLost: The model is damaged; it is to be trained again.
            StorageLost: The storage took nothing.
        """
        from raystt.evaluation.ceiling import measure_ceiling

        try:
            if isinstance(job, CeilingJob):
                return measure_ceiling(self._judge, job)
            state = Path(job.model).parent
            remote.fetch(state, DONE)
            if (state / DONE).exists():
                model_of(state)
                let_go(state.parent)
            elif remote.url_of(state):  # no state: nothing in it tells a copy from a newer model
                remove(Path(job.model))
                remote.fetch(Path(job.model), MODEL_CONFIG)
            return self._judge.evaluate(job)
        except Exception as error:
            raise answer(error, None) or error from None

    @ray.method(max_task_retries=-1)
    def ready(self) -> str:
        """Return the signature of the scores, once everything is loaded."""
        return self._judge.signature
