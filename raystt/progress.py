"""Live progress of a search and of a corpus' preparation.

A search describes itself by frozen snapshots; this module alone decides how they look: bars on a
terminal, elsewhere a line for each event and one of the state now and then.
"""

from __future__ import annotations

import heapq
import textwrap
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

PLAIN_INTERVAL_S = 30.0
"""Least time between a plain line and one that only tells of moving steps."""

WIDTH = 118
"""Characters of a plain line."""

# What the stages of a preparation do, and what they count.
STAGES = {
    "text": ("writing the text-only split", "languages"),
    "speech": ("speaking the sentences", "pairs"),
    "encoder": ("fine-tuning the speech encoder", "steps"),
    "units": ("encoding a sample of the speech", "pairs"),
    "k-means": ("fitting the codebooks of units", "rounds at most"),
    "shards": ("encoding and aligning all speech", "pairs"),
    "merge": ("writing the shards", "splits"),
    "vocoder": ("fitting the vocoder", "steps"),
    "asr": ("building the recogniser", "model"),
    "base": ("training the text language model", "steps"),
    "train": ("training", "steps"),
}
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
    """

    elapsed_s: float
    languages: tuple[LanguageProgress, ...]
    running: tuple[Running, ...] = ()
    ended: tuple[Ended, ...] = ()
    failed: int = 0
    parallel: int = 1
    score: str = "ASR-BLEU"


def time_left(snapshot: Snapshot) -> float | None:
    """Estimate the seconds until the last trial is trained.

    None = too early to say, or only trainings that confirm are left, which are no trials.
    Trials count as equally long: as long as the trainers have taken for one so far, steps of
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
    waiting = max(0, open_ - len(snapshot.running))
    made = over + evaluating + sum(training)
    if made < _MEASURABLE or (training and open_ <= 0):
        return None
    slots = max(1, len(training), min(snapshot.parallel, over + open_))
    each = snapshot.elapsed_s * slots / made
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


def duration(seconds: float) -> str:
    """Format seconds as `47 s`, `6 min 05 s` or `3 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _Display:
    """Bars on a terminal, lines elsewhere; a context manager that takes the bars down.

    Args:
        console: Where to write; standard error by default, which leaves stdout to results.
        clock: Monotonic seconds, for tests.
    """

    def __init__(self, console: Console | None, clock: Callable[[], float]) -> None:
        self._console, self._clock = console or Console(stderr=True), clock
        self._printed_at = clock()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bars.live.is_started:  # else it would print an empty line
            self._bars.stop()

    def message(self, text: str) -> None:
        """Print one line that stays, such as a worker that was lost and replaced."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._printed_at = self._clock()

    def _show(self, rows: Mapping[str, tuple[int, int, str]], plain: str) -> None:
        """Show what is running: title -> done, total (0: not known), note; or print `plain`."""
        if not self._console.is_terminal:
            if rows and self._clock() - self._printed_at >= PLAIN_INTERVAL_S:
                self.message(_fit(plain))
            return
        for title in self._tasks.keys() - rows.keys():
            self._bars.remove_task(self._tasks.pop(title))
        for title, (done, total, note) in rows.items():
            if title not in self._tasks:
                self._tasks[title] = self._bars.add_task(title, total=None, note=note)
            self._bars.update(self._tasks[title], completed=done, total=total or None, note=note)
        # A console takes one set of bars at a time: the terminal goes to who has some to show.
        if rows:
            self._bars.start()
        else:
            self._stop()


def stage_progress(show: bool) -> AbstractContextManager[Callable[[str, int, int], None]]:
    """Return what is told (stage, done, total), and shows it if it is to."""
    return StageProgress() if show else nullcontext(lambda stage, done, total: None)


class SearchProgress(_Display):
    """Shows a search as it goes: a line at the end of each trial, and the state between."""

    def __init__(
        self,
        name: str,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self._name = name
        self._told: set[Ended] = set()

    def update(self, snapshot: Snapshot) -> None:
        """Show a new snapshot; cheap enough to be called several times a second."""
        for trial in snapshot.ended:
            if trial not in self._told:
                self._told.add(trial)
                self.message(event(snapshot, trial))
        self._show(_rows(self._name, snapshot), line(self._name, snapshot))


def event(snapshot: Snapshot, trial: Ended) -> str:
    """Return the line that tells of the end of a trial."""
    done, total = _counts(snapshot)
    score = f"{snapshot.score} {trial.score:.1f}" if trial.status == "complete" else trial.status
    return _fit(
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
        f"{slot.language}#{slot.trial} "
        + (f"{slot.done}/{slot.total}" if slot.total else slot.pool)
        for slot in snapshot.running
    ]
    return _fit(" | ".join(filter(None, [head, ", ".join(studies), ", ".join(slots)])))


def _fit(text: str) -> str:
    return textwrap.shorten(text, WIDTH, placeholder=" …")


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


@dataclass
class _Stage:
    """A stage of a preparation; it began when the clock stood at `began`."""

    done: int = 0
    total: int = 0
    began: float | None = None
    finished: bool = False

    def count(self) -> str:
        return f"{self.done}/{self.total}" if self.total else str(self.done)


class StageProgress(_Display):
    """Shows the stages of a preparation: `progress(stage, done, total)`; a context manager.

    Stages may run side by side. `progress(stage, 0, 0)` announces one that will come, so that each
    can tell how many follow. On a terminal each running stage has a bar, and one that ends leaves
    a line with its time; elsewhere a line is printed when a stage starts, too.
    """

    def __init__(
        self,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self._stages: dict[str, _Stage] = {}
        self._announced: list[str] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` pieces of a stage are made (`total` 0: not known)."""
        state = self._stages.setdefault(stage, _Stage())
        if not done and not total:
            self._announced.append(stage)
            return
        if state.finished:
            return
        now, first = self._clock(), state.began is None
        began = state.began = now if state.began is None else state.began
        # A task that counted steps ends as one of one: what it counted is worth more.
        state.finished = 0 < total <= done
        state.done, state.total = done, max(total, state.total) if state.finished else total
        words, unit = STAGES.get(stage, (stage, ""))
        if state.finished:
            # A stage found ready on disk arrives done at once: it took no time worth telling.
            took = f", {duration(now - began)}" if now - began >= 1 else ""
            self.message(f"{self._title(stage)}: {words}, {state.total} {unit}{took}")
        elif first and not self._console.is_terminal:
            self.message(f"{self._title(stage)}: {words} ...")
        running = {n: s for n, s in self._stages.items() if s.began is not None and not s.finished}
        counts = {name: (s.done, s.total, s.count()) for name, s in running.items()}
        self._show(
            {f"{self._title(n)}: {STAGES.get(n, (n,))[0]}": row for n, row in counts.items()},
            "; ".join(f"{self._title(n)}: {count}" for n, (_, _, count) in counts.items()),
        )

    def _title(self, stage: str) -> str:
        if stage not in self._announced:
            return stage
        return f"{self._announced.index(stage) + 1}/{len(self._announced)} {stage}"
