"""Trainings and scores outside of a search, in the pools of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from raystt.cluster.start import ray_session
from raystt.config import EvaluationConfig, RunConfig, SearchConfig
from raystt.evaluation.jobs import Evaluation, EvaluationJob
from raystt.pools.broker import served
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool
from raystt.training.jobs import SegmentJob, SegmentResult

T = TypeVar("T")
R = TypeVar("R")


class Lab:
    """Trains and scores, and waits for it.

    Args:
        corpus: Directory of the prepared corpus.
        broker: Of the trainers.
        dispatcher: Of the evaluators.
        at_once: How many wait at a time.

    Attributes:
        corpus: That directory.
    """

    def __init__(self, corpus: Path, broker: Any, dispatcher: Any, at_once: int) -> None:
        self.corpus = corpus
        self._broker, self._dispatcher, self._at_once = broker, dispatcher, at_once

    def train(self, job: SegmentJob, label: str) -> SegmentResult:
        """Train a segment."""
        result: SegmentResult = served(self._broker.run.remote(job, label)).result
        return result

    def score(
        self, run: RunConfig, trained: SegmentResult, config: EvaluationConfig, label: str
    ) -> Evaluation:
        """Score what was trained of a run on the split of a config."""
        job = EvaluationJob(
            model=str(trained.model), language=run.language, split=config.split, config=config,
            interleaving=run.interleaving,
        )  # fmt: skip
        evaluation: Evaluation = served(self._dispatcher.run.remote(job, label)).result
        return evaluation

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Do work on all items, as many at once as the pools take; give each as it is done."""
        with ThreadPoolExecutor(self._at_once) as waiting:
            for done in as_completed([waiting.submit(work, item) for item in items]):
                yield done.result()


@contextmanager
def lab(search: SearchConfig, directory: Path) -> Iterator[Lab]:
    """Start the pools of a search, whose corpus is prepared, for the time of the block.

    Args:
        search: The search.
        directory: Absolute; what is trained lies in it.
    """
    resources, corpus = search.base.resources, Path(search.base.corpus.path).resolve()
    with (
        ray_session(resources, shared=[corpus, directory], on_message=print),
        TrainerPool(resources, directory / "ray", print) as trainers,
        EvaluatorPool(str(corpus), search.base.evaluation, resources, print) as evaluators,
    ):
        trainers.wait_until_ready()
        evaluators.wait_until_ready()
        at_once = resources.trainers + resources.evaluators
        yield Lab(corpus, trainers.broker, evaluators.dispatcher, at_once)
