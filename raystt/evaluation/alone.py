"""One run in this process, without Ray: for a debugger, a profiler or a plain script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raystt.config import RunConfig
from raystt.evaluation.ceiling import measure_ceiling
from raystt.evaluation.jobs import CeilingJob, EvaluationJob, Scored, evaluate_run
from raystt.evaluation.judge import Judge
from raystt.training.device import device_here, device_of
from raystt.training.jobs import STATES, SegmentResult, Step, whole_run
from raystt.training.segment import train_segment
from raystt.training.states import sweep


def load_judge(run: RunConfig, corpus: Path) -> None:
    """Load what will score a run, and let it go: what is wrong with it is told before training.

    Raises:
        BadInput: The recogniser, or another of its models, cannot be loaded.
    """
    Judge(corpus, run.evaluation, device=_device(run, "gpus_per_evaluator"))


def train_run(
    run: RunConfig, corpus: Path, directory: Path, on_step: Callable[[Step], None]
) -> SegmentResult:
    """Train a run to its horizon; see `whole_run`."""
    device = _device(run, "gpus_per_worker")
    sweep(directory / STATES)
    return train_segment(whole_run(run, corpus, directory), on_step=on_step, device=device)


def evaluate_model(
    run: RunConfig, corpus: Path, model: Path, splits: Sequence[str], folder: Path
) -> tuple[Scored, ...]:
    """Score a model on splits and write its hypotheses; see `evaluate_run`."""
    device = _device(run, "gpus_per_evaluator")
    judge = Judge(corpus, run.evaluation, device=device)

    def ask(job: EvaluationJob | CeilingJob) -> Any:
        return measure_ceiling(judge, job) if isinstance(job, CeilingJob) else judge.evaluate(job)

    return tuple(evaluate_run(run, model, split, folder, ask) for split in splits)


def _device(run: RunConfig, key: str) -> str:
    if run.resources.auto:
        return device_here(0.0, auto=True)
    return device_of(getattr(run.resources, key), key)
