"""A search as it goes: its state at one instant, what that says of the time left, how it looks.

A search describes itself by frozen snapshots; this module decides what is shown of one.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from raystt.progress import Display, duration, fit
from raystt.results import label_of

_MEASURABLE = 0.05
"""Trials that must have been made before their speed says anything: the first steps are slow."""


@dataclass(frozen=True)
class LanguageProgress:
    """How far the study of one language is.

    Attributes:
        language: Source language.
        done: Finished trials, those of an earlier run of the search included.
        total: Trials the study will have.
        best: Highest score so far, or None before the first score.
        best_schedule: Label of the schedule that scored it.
    """

    language: str
    done: int
    total: int
    best: float | None = None
    best_schedule: str = ""


@dataclass(frozen=True)
class Running:
    """What one slot of a pool is doing now.

    Attributes:
        pool: "train" or "evaluate".
        language: Source language of the trial.
        trial: Its number.
        schedule: Label of its schedule.
        done: Optimiser steps made.
        total: Of how many (0: not known).
        ratio: Nominal text ratio now, or None outside of training.
        loss: Last loss, or None outside of training.
    """

    pool: str
    language: str
    trial: int
    schedule: str = ""
    done: int = 0
    total: int = 0
    ratio: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Ended:
    """A trial that reached its end.

    Attributes:
        label: What a person calls it: `es#3`.
        status: Whether it has a score, or training was not finite.
        schedule: Label of its schedule.
        score: What it is compared by.
    """

    label: str
    status: Literal["complete", "diverged"]
    schedule: str
    score: float


@dataclass(frozen=True)
class Snapshot:
    """A search at one instant.

    Attributes:
        elapsed_s: Seconds since the pools were ready.
        languages: The studies.
        running: What the pools do now.
        ended: Trials that ended within `elapsed_s`.
        failed: Number of those that could not be run within it.
        parallel: Trials that can be trained at once.
        score: What the scores are called.
        stepping_s: Seconds since the first step of the first trial; None before it. Until then,
            workers load what they do not load again.
        confirmations: The most trainings on fresh seeds that follow the trials.
    """

    elapsed_s: float
    languages: tuple[LanguageProgress, ...]
    running: tuple[Running, ...] = ()
    ended: tuple[Ended, ...] = ()
    failed: int = 0
    parallel: int = 1
    score: str = "ASR-BLEU"
    stepping_s: float | None = None
    confirmations: int = 0


def time_left(snapshot: Snapshot) -> float | None:
    """Estimate the seconds until the last trial is trained, and what confirms them.

    None = too early to say, or only trainings that confirm are left, which are no trials.
    All count as equally long: as long as the trainers have taken for one so far, steps of
    unfinished ones included. Those that wait begin wherever a trainer comes free first.
    """
    training = [
        slot.done / slot.total if slot.total else 0.0
        for slot in snapshot.running
        if slot.pool == "train"
    ]
    evaluating = len(snapshot.running) - len(training)
    over = len(snapshot.ended) + snapshot.failed
    open_ = sum(study.total - study.done for study in snapshot.languages) - snapshot.failed
    waiting = max(0, open_ - len(snapshot.running)) + snapshot.confirmations
    made = over + evaluating + sum(training)
    if snapshot.stepping_s is None or made < _MEASURABLE:
        return None
    if open_ <= 0 and (training or snapshot.confirmations):
        return None
    slots = max(1, len(training), min(snapshot.parallel, over + open_))
    each = snapshot.stepping_s * slots / made
    free = [(1.0 - done) * each for done in training] + [0.0] * (slots - len(training))
    heapq.heapify(free)
    rounds, rest = divmod(waiting, slots)
    for _ in range(rest):
        heapq.heapreplace(free, free[0] + each)
    return max(free) + rounds * each


def left_of_equal(elapsed_s: float, done: int, total: int, at_once: int) -> float:
    """Estimate, when one of some equal jobs has ended, the seconds until all have.

    What runs beside counts as half done: left out, the first to end of four at once would say that
    a job takes four times as long as it does.
    """
    made = done + min(at_once - 1, total - done) / 2
    return elapsed_s / made * (total - made)


class SearchProgress(Display):
    """Shows a search as it goes: a line at the end of each trial, and the state between."""

    def __init__(
        self,
        name: str,
        *,
        show: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(show=show, console=console, clock=clock)
        self._name = name
        self._told: set[Ended] = set()

    def update(self, snapshot: Snapshot) -> None:
        """Show a new snapshot; cheap enough to be called several times a second."""
        for trial in snapshot.ended:
            if trial not in self._told:
                self._told.add(trial)
                self.message(event(snapshot, trial))
        self.draw(_rows(self._name, snapshot), line(self._name, snapshot))


def event(snapshot: Snapshot, trial: Ended) -> str:
    """Return the line that tells of the end of a trial."""
    done, total = _counts(snapshot)
    score = f"{snapshot.score} {trial.score:.1f}" if trial.status == "complete" else trial.status
    return fit(
        f"[{duration(snapshot.elapsed_s)}] {done}/{total} {trial.label} {score}, "
        f"{trial.schedule}{_left(snapshot)}"
    )


def line(name: str, snapshot: Snapshot) -> str:
    """Return a snapshot as one plain line; what matters least is cut where it is too long."""
    done, total = _counts(snapshot)
    head = f"[{duration(snapshot.elapsed_s)}] {name} {done}/{total}{_left(snapshot)}"
    studies = [
        f"{study.language} {study.done}/{study.total}"
        + (f" best {study.best:.1f}" if study.best is not None else "")
        for study in snapshot.languages
    ]
    slots = [
        f"{label_of(slot.language, slot.trial)} "
        + (f"{slot.done}/{slot.total}" if slot.total else slot.pool)
        for slot in snapshot.running
    ]
    return fit(" | ".join(filter(None, [head, ", ".join(studies), ", ".join(slots)])))


def _counts(snapshot: Snapshot) -> tuple[int, int]:
    studies = snapshot.languages
    return sum(study.done for study in studies), sum(study.total for study in studies)


def _left(snapshot: Snapshot) -> str:
    left = time_left(snapshot)
    return f", about {duration(left)} left" if left else ""


def _rows(name: str, snapshot: Snapshot) -> dict[str, tuple[int, int, str]]:
    """Return the bars: the search, its studies, then what the pools do."""
    done, total = _counts(snapshot)
    note = f"{done}/{total}, {duration(snapshot.elapsed_s)}{_left(snapshot)}"
    rows = {name: (done, total, note)}
    for study in snapshot.languages:
        best = "" if study.best is None else f", best {study.best:.1f}, {study.best_schedule}"
        note = f"{study.done}/{study.total}{best}"
        rows[f"  {study.language}"] = study.done, study.total, note
    for slot in snapshot.running:
        parts = [
            f"{slot.done}/{slot.total}" if slot.total else "",
            "" if slot.ratio is None else f"ratio {slot.ratio:.2f}",
            "" if slot.loss is None else f"loss {slot.loss:.2f}",
            slot.schedule,
        ]
        title = f"  {slot.pool} {slot.language}#{slot.trial}"
        rows[title] = slot.done, slot.total, ", ".join(filter(None, parts))
    return rows
