"""What is asked of a trainer and what it answers. Imports no torch: those who ask start fast."""

from __future__ import annotations

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
