"""Live progress of a search and of a corpus' preparation.

A search describes itself by frozen snapshots; this module alone decides how they look: one live
panel on a terminal, otherwise one plain line at each change, a few seconds apart at the least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_INTERVAL_S = 5.0


@dataclass(frozen=True)
class LanguageProgress:
    """How far the study of one language is.

    Attributes:
        language: Source language.
        done: Finished trials.
        total: Trials the study will have.
        best: Highest ASR-BLEU so far, or None before the first score.
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
        done: Optimiser steps made, or sentences scored.
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
class Snapshot:
    """A search at one instant; `left_s` is None until it can be estimated."""

    elapsed_s: float
    languages: tuple[LanguageProgress, ...]
    running: tuple[Running, ...] = ()
    left_s: float | None = None


def duration(seconds: float) -> str:
    """Format seconds as `47 s`, `6 min 05 s` or `3 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class SearchProgress:
    """Shows a search as it goes; a context manager.

    Args:
        name: Name of the search.
        console: Where to write; standard error by default, which leaves stdout to results.
        interval_s: Least time between two plain lines that only tell of moving steps.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        name: str,
        *,
        console: Console | None = None,
        interval_s: float = PLAIN_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._console = console or Console(stderr=True)
        self._interval_s = interval_s
        self._clock = clock
        self._live: Live | None = None
        self._printed_at: float | None = None
        self._printed: tuple[object, ...] | None = None
        self._last: Snapshot | None = None

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        # The last state stays readable: the live panel is gone, a plain line may have been held.
        if self._last is not None and self._state(self._last) != self._printed:
            self._print(self._last)

    def update(self, snapshot: Snapshot) -> None:
        """Show a new snapshot; cheap enough to be called several times a second."""
        self._last = snapshot
        if self._console.is_terminal:
            # Started late, so that a preparation before the search can have the terminal.
            self._live = self._live or _start_live(self._console)
            self._live.update(render(self._name, snapshot))
            return
        now = self._clock()
        due = self._printed_at is None or now - self._printed_at >= self._interval_s
        if due and self._state(snapshot) != self._printed:
            self._print(snapshot)
            self._printed_at = now

    def message(self, text: str) -> None:
        """Print one line that stays, such as a worker that was lost and replaced."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _print(self, snapshot: Snapshot) -> None:
        self.message(line(self._name, snapshot))
        self._printed = self._state(snapshot)

    @staticmethod
    def _state(snapshot: Snapshot) -> tuple[object, ...]:
        """What a plain line is worth printing for: everything but the time."""
        return snapshot.languages, snapshot.running


def line(name: str, snapshot: Snapshot) -> str:
    """Return a snapshot as one plain line."""
    parts = [f"[{duration(snapshot.elapsed_s)}] {name}"]
    for study in snapshot.languages:
        text = f"{study.language} {study.done}/{study.total}"
        if study.best is not None:
            text += f" best {study.best:.1f} ({study.best_schedule})"
        parts.append(text)
    parts += [_running_text(slot) for slot in snapshot.running]
    if snapshot.left_s is not None:
        parts.append(f"about {duration(snapshot.left_s)} left")
    return " | ".join(parts)


def _running_text(slot: Running) -> str:
    text = f"{slot.pool} {slot.language}#{slot.trial}"
    if slot.total:
        text += f" {slot.done}/{slot.total}"
    if slot.ratio is not None:
        text += f" ratio {slot.ratio:.2f}"
    if slot.loss is not None:
        text += f" loss {slot.loss:.3f}"
    return text


def render(name: str, snapshot: Snapshot) -> RenderableType:
    """Return a snapshot as a live panel: studies above, running slots below."""
    left = "" if snapshot.left_s is None else f"  about {duration(snapshot.left_s)} left"
    head = Text.assemble((name, "bold"), f"  {duration(snapshot.elapsed_s)}", (left, "dim"))
    studies = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("language", "trials", "", "best ASR-BLEU", "schedule"):
        studies.add_column(title, no_wrap=True)
    for study in snapshot.languages:
        studies.add_row(
            study.language,
            f"{study.done}/{study.total}",
            ProgressBar(total=max(1, study.total), completed=study.done, width=24),
            "-" if study.best is None else f"{study.best:.1f}",
            study.best_schedule,
        )
    slots = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("pool", "trial", "", "", "ratio", "loss", "schedule"):
        slots.add_column(title, no_wrap=True)
    for slot in snapshot.running:
        slots.add_row(
            slot.pool,
            f"{slot.language}#{slot.trial}",
            f"{slot.done}/{slot.total}" if slot.total else "",
            ProgressBar(total=slot.total, completed=slot.done, width=24) if slot.total else "",
            "" if slot.ratio is None else f"{slot.ratio:.2f}",
            "" if slot.loss is None else f"{slot.loss:.3f}",
            slot.schedule,
        )
    return Group(head, studies, *((Text(""), slots) if snapshot.running else ()))


@dataclass
class _Stage:
    """A stage that has begun; times in the clock's seconds."""

    started_at: float
    done: int = 0
    total: int = 0
    printed_at: float | None = None
    finished: bool = False


class StageProgress:
    """Shows the stages of a preparation: `progress(stage, done, total)`; a context manager.

    Stages may run side by side. On a terminal each running stage is a live line, and one that
    ends stays as a line with its time. Elsewhere a line is printed when a stage starts and ends,
    and every few seconds between.

    Args:
        console: Where to write; standard error by default.
        interval_s: Least time between two plain lines of one stage.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        *,
        console: Console | None = None,
        interval_s: float = PLAIN_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._interval_s = interval_s
        self._clock = clock
        self._live: Live | None = None
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_live()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` pieces of a stage are made (`total` 0: not known)."""
        now = self._clock()
        state = self._stages.setdefault(stage, _Stage(started_at=now))
        if state.finished:
            return
        state.done, state.total = done, total
        if total and done >= total:
            state.finished = True
            # A stage found ready on disk arrives done at once: it took no time worth telling.
            took = now - state.started_at
            self._write(f"{stage}: {total}/{total}" + (f", {duration(took)}" if took >= 1 else ""))
            self._show()
        elif self._console.is_terminal:
            self._show()
        elif state.printed_at is None or now - state.printed_at >= self._interval_s:
            self._write(f"{stage}: {done}/{total}" if total else f"{stage}: {done}")
            state.printed_at = now

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        """Draw the stages that run; hand the terminal back when there is none."""
        running = {name: state for name, state in self._stages.items() if not state.finished}
        if not running:
            self._stop_live()
        elif self._console.is_terminal:
            self._live = self._live or _start_live(self._console)
            self._live.update(_stage_rows(running))

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _stage_rows(stages: dict[str, _Stage]) -> RenderableType:
    rows = Table.grid(padding=(0, 2, 0, 0))
    for name, state in stages.items():
        known = state.total > 0
        bar = ProgressBar(total=state.total, completed=state.done, width=32) if known else ""
        count = f"{state.done}/{state.total}" if known else str(state.done)
        rows.add_row(Text(name, style="bold"), bar, count)
    return rows


def _start_live(console: Console) -> Live:
    live = Live(console=console, refresh_per_second=4, transient=True)
    live.start()
    return live
