"""Where a trial stops to be compared, and whether it goes on.

A trial is trained in segments. At the end of each, a promotion policy says what happens next. Only
full fidelity is searched here: every trial goes on to its horizon and is scored there. A policy
that promotes must not compare the scores of unfinished schedules (they flatter fast decay): it
scores a fork of the state, which is a segment from the same parent under another schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from raystt.training.jobs import plan

Decision = Literal["continue", "pause", "stop"]


@dataclass(frozen=True)
class Border:
    """A trial at the end of a segment.

    Attributes:
        language: Source language (trials are compared within a language only).
        trial: Number of the trial.
        step: Optimiser steps trained.
        horizon: Optimiser steps of the whole schedule.
        score: ASR-BLEU at this border, None if it was not evaluated.
    """

    language: str
    trial: int
    step: int
    horizon: int
    score: float | None


class Promotion(Protocol):
    """Policy over segments; small, picklable, without side effects."""

    def segments(self, horizon: int) -> list[tuple[int, int]]:
        """Return (start, stop) of a trial's segments; the last stop is the horizon."""
        ...

    def evaluated(self, step: int, horizon: int) -> bool:
        """Say whether a trial is scored at this border."""
        ...

    def decide(self, border: Border, others: tuple[Border, ...]) -> Decision:
        """Decide how a trial goes on, given the other trials' borders of its language."""
        ...


@dataclass(frozen=True)
class FullFidelity:
    """Every trial runs to its horizon and is scored there, in `count` equal segments."""

    count: int = 1

    def segments(self, horizon: int) -> list[tuple[int, int]]:
        """Return (start, stop) of `count` nearly equal segments."""
        return plan(horizon, min(self.count, horizon))

    def evaluated(self, step: int, horizon: int) -> bool:
        """Score at the horizon only."""
        return step >= horizon

    def decide(self, border: Border, others: tuple[Border, ...]) -> Decision:
        """Go on to the horizon, then stop."""
        return "stop" if border.step >= border.horizon else "continue"
