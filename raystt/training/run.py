"""A run of its own, trained to its horizon segment by segment. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raystt.config import RunConfig
from raystt.training.jobs import SegmentJob, SegmentResult, Segments, StateLost, plan
from raystt.training.states import drop_engine, sweep


def train_in_segments(
    run: RunConfig, corpus: Path, directory: Path, train: Callable[[SegmentJob], SegmentResult]
) -> SegmentResult:
    """Train a run of its own to its horizon, with a state every `training.checkpoint_every` steps.

    Args:
        run: The run.
        corpus: Directory of the prepared corpus.
        directory: Directory of the run; gets `states/`, `train.jsonl` and TensorBoard events.
        train: Trains a segment; one found in `states/` is not trained again.

    Returns:
        The last segment, which may have diverged.

    Raises:
        CheckpointError: The same state was lost again and again.
    """
    states, steps = directory / "states", run.training.steps
    sweep(states)
    every = run.training.checkpoint_every or steps
    segments = Segments(run, corpus, states, directory, plan(steps, -(-steps // every)))
    while (job := segments.next_job()) is not None:
        try:
            segments.done(train(job))
        except StateLost as lost:
            segments.rewind(lost)
        # The last two stay: one to go on from, one for when that is damaged.
        for before in segments.finished[:-2]:
            drop_engine(Path(before.state))
    for result in segments.finished:
        drop_engine(Path(result.state))
    return segments.finished[-1]
