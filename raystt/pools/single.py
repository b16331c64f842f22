"""One training run through the pools: train in segments, evaluate, and leave a model directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from raystt.config import ResourcesConfig, RunConfig
from raystt.evaluation.jobs import CeilingJob, EvaluationJob
from raystt.pools.broker import JobFailed
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool
from raystt.training.jobs import SegmentJob, SegmentResult, Step, plan


def train_run(
    run: RunConfig, corpus: Path, directory: Path, on_step: Callable[[Step], None]
) -> SegmentResult:
    """Train a run to its horizon; segments found in `directory/states` are not trained again.

    Args:
        run: The run.
        corpus: Directory of the prepared corpus.
        directory: Directory of the run; gets `states/`, `train.jsonl` and TensorBoard events.
        on_step: Told of the last step, about once a second.

    Raises:
        JobFailed: A segment could not be trained.
    """
    every = run.training.checkpoint_every or run.training.steps
    resources = run.resources.model_copy(update={"trainers": 1})
    result: SegmentResult | None = None
    with TrainerPool(resources, directory / "ray") as trainers:
        trainers.wait_until_ready()
        for start, stop in plan(run.training.steps, -(-run.training.steps // every)):
            job = SegmentJob(
                run=run,
                corpus=str(corpus),
                start=start,
                stop=stop,
                parent=result.state if result else None,
                states=str(directory / "states"),
                log=str(directory),
            )
            pending = trainers.broker.run.remote(job, run.name)
            while not ray.wait([pending], timeout=1.0)[0]:
                for activity in ray.get(trainers.broker.activity.remote()):
                    if activity.step is not None:
                        on_step(activity.step)
            result = _result(pending).result
            if result.status == "diverged":
                break
    assert result is not None  # a horizon has at least one step
    return result


def evaluate_model(
    run: RunConfig, corpus: Path, model: Path, split: str, hypotheses: Path
) -> dict[str, Any]:
    """Score a model on a split and write its hypotheses.

    Returns:
        What `Evaluation.record` gives, and `model`, `language`, `split`, `ceiling` (what reference
        speech of the split scores), `seconds`.
    """
    job = EvaluationJob(
        model=str(model),
        corpus=str(corpus),
        language=run.language,
        split=split,
        config=run.evaluation,
        interleaving=run.interleaving,
    )
    with EvaluatorPool(str(corpus), run.evaluation, _one_evaluator(run.resources)) as pool:
        pool.wait_until_ready()
        evaluation = _result(pool.dispatcher.run.remote(job, f"{run.name} {split}")).result
        reference = CeilingJob(run.language, split, run.evaluation)
        ceiling = _result(pool.dispatcher.run.remote(reference, "ceiling")).result
    evaluation.write(hypotheses)
    return {
        "model": str(model),
        "language": run.language,
        "split": split,
        **evaluation.record(run.evaluation),
        "ceiling": asdict(ceiling),
        "seconds": evaluation.seconds,
    }


def _one_evaluator(resources: ResourcesConfig) -> ResourcesConfig:
    return resources.model_copy(update={"evaluators": 1})


def _result(pending: Any) -> Any:
    """Get a pool's answer; a job's own error instead of Ray's wrapping of it."""
    try:
        return ray.get(pending)
    except ray.exceptions.RayTaskError as error:
        raise JobFailed(str(error.cause)) from None
