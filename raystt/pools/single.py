"""One training run through the pools: train, evaluate, and leave a model directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from raystt.config import RunConfig
from raystt.evaluation.jobs import CeilingJob, EvaluationJob, Scored, evaluate_run
from raystt.pools.broker import served
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool
from raystt.training.jobs import STATES, SegmentResult, Step, whole_run
from raystt.training.states import sweep


def load_judge(run: RunConfig, corpus: Path) -> None:
    """Load what will score a run, and let it go: what is wrong with it is told before training.

    Raises:
        BadInput: The recogniser, or another of its models, cannot be loaded.
    """
    with _evaluator(run, corpus) as pool:
        pool.wait_until_ready()


def _evaluator(run: RunConfig, corpus: Path) -> EvaluatorPool:
    resources = run.resources.model_copy(update={"evaluators": 1})
    return EvaluatorPool(str(corpus), run.evaluation, resources)


def train_run(
    run: RunConfig, corpus: Path, directory: Path, on_step: Callable[[Step], None]
) -> SegmentResult:
    """Train a run to its horizon; see `whole_run`.

    Args:
        run: The run.
        corpus: Directory of the prepared corpus.
        directory: Directory of the run.
        on_step: Told of the last step, about once a second.

    Raises:
        JobFailed: A segment could not be trained.
    """
    resources = run.resources.model_copy(update={"trainers": 1})
    sweep(directory / STATES)
    with TrainerPool(resources, directory / "ray") as trainers:
        trainers.wait_until_ready()
        pending = trainers.broker.run.remote(whole_run(run, corpus, directory), run.name)
        while not ray.wait([pending], timeout=1.0)[0]:
            for activity in ray.get(trainers.broker.activity.remote()):
                if activity.step is not None:
                    on_step(activity.step)
        result: SegmentResult = served(pending).result
        return result


def evaluate_model(
    run: RunConfig, corpus: Path, model: Path, splits: Sequence[str], folder: Path
) -> tuple[Scored, ...]:
    """Score a model on splits and write its hypotheses; see `evaluate_run`.

    Args:
        run: The run.
        corpus: Directory of the prepared corpus.
        model: Directory of the model.
        splits: "dev", "test".
        folder: Where hypotheses and clips go.

    Raises:
        JobFailed: The evaluation could not be done.
    """
    with _evaluator(run, corpus) as pool:
        pool.wait_until_ready()

        def ask(job: EvaluationJob | CeilingJob) -> Any:
            return served(pool.dispatcher.run.remote(job, f"{run.name} {job.split}")).result

        return tuple(evaluate_run(run, model, split, folder, ask) for split in splits)
