"""What is asked of a trainer and what it answers. Imports no torch: those who ask start fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raystt.config import RunConfig


@dataclass(frozen=True)
class SegmentJob:
    """What a trainer needs to know to train a segment.

    Attributes:
        run: The whole run's config; its schedule and `training.steps` fix the ratio of each step.
        corpus: Directory of the prepared corpus.
        start: First optimiser step of the segment.
        stop: Step after the last.
        parent: State directory at `start`; None = the base model.
        states: Directory under which the result is written.
        log: Directory of `train.jsonl` and the TensorBoard file; None = no log.
    """

    run: RunConfig
    corpus: str
    start: int
    stop: int
    parent: str | None
    states: str
    log: str | None = None


@dataclass(frozen=True)
class SegmentResult:
    """Outcome of a segment; `state` holds `model/` and, before the horizon, `engine/`.

    `status` is "complete" or "diverged" (the loss was not finite at `diverged_at`). `seconds` is
    the time of the steps, `setup_seconds` what came before and after them. `reused` says that the
    state was found and not trained now.
    """

    state: str
    status: str
    start: int
    stop: int
    seconds: float
    setup_seconds: float
    tokens: int
    loss: float
    achieved_words: float
    achieved_tokens: float
    diverged_at: int | None = None
    reused: bool = False

    @property
    def model(self) -> Path:
        """The exported model's directory."""
        return Path(self.state) / "model"


@dataclass(frozen=True)
class Step:
    """What is told about a step while a segment runs."""

    step: int
    horizon: int
    ratio: float
    achieved: float
    loss: float
    tokens: int
    seconds: float


def plan(steps: int, segments: int) -> list[tuple[int, int]]:
    """Cut `steps` into (start, stop) of `segments` nearly equal segments."""
    borders = [round(i * steps / segments) for i in range(segments + 1)]
    return list(zip(borders[:-1], borders[1:], strict=True))


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
    """
    every = run.training.checkpoint_every or run.training.steps
    result: SegmentResult | None = None
    for start, stop in plan(run.training.steps, -(-run.training.steps // every)):
        result = train(
            SegmentJob(
                run=run,
                corpus=str(corpus),
                start=start,
                stop=stop,
                parent=result.state if result else None,
                states=str(directory / "states"),
                log=str(directory),
            )
        )
        if result.status == "diverged":
            break
    assert result is not None  # a horizon has at least one step
    return result
