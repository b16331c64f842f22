"""Progress of long work: bars on a terminal, elsewhere a line at each event and now and then."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

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


def duration(seconds: float) -> str:
    """Format seconds as `47 s`, `6 min 05 s` or `3 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Display:
    """Bars on a terminal, lines elsewhere; a context manager that takes the bars down.

    Args:
        show: False = nothing is shown, messages neither.
        console: Where to write; standard error by default, which leaves stdout to results.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        *,
        show: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console or Console(stderr=True, quiet=not show), clock
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

    def draw(self, rows: Mapping[str, tuple[int, int, str]], plain: str) -> None:
        """Show what is running: title -> done, total (0: not known), note; or print `plain`."""
        if self._console.quiet:
            return
        if not self._console.is_terminal:
            if rows and self._clock() - self._printed_at >= PLAIN_INTERVAL_S:
                self.message(fit(plain))
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


def fit(text: str) -> str:
    """Cut a plain line that is too long."""
    return textwrap.shorten(text, WIDTH, placeholder=" …")


@dataclass
class _Stage:
    """A stage of a preparation; it began when the clock stood at `began`."""

    done: int = 0
    total: int = 0
    began: float | None = None
    finished: bool = False

    def count(self) -> str:
        return f"{self.done}/{self.total}" if self.total else str(self.done)


class StageProgress(Display):
    """Shows the stages of a preparation: `progress(stage, done, total)`; a context manager.

    Stages may run side by side. `progress(stage, 0, 0)` announces one that will come, so that each
    can tell how many follow. On a terminal each running stage has a bar, and one that ends leaves
    a line with its time; elsewhere a line is printed when a stage starts, too.
    """

    def __init__(
        self,
        *,
        show: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(show=show, console=console, clock=clock)
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
        self.draw(
            {f"{self._title(n)}: {STAGES.get(n, (n,))[0]}": row for n, row in counts.items()},
            "; ".join(f"{self._title(n)}: {count}" for n, (_, _, count) in counts.items()),
        )

    def _title(self, stage: str) -> str:
        if stage not in self._announced:
            return stage
        return f"{self._announced.index(stage) + 1}/{len(self._announced)} {stage}"
