"""Ray tasks of a preparation, and the progress of their stages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raystt.files import write_atomic
from raystt.preparation.files import WORK

Progress = Callable[[str, int, int], None]

_LOOK_SECONDS = 0.5


def note_progress(corpus: Path, stage: str) -> Callable[[int, int], None]:
    """Return what a worker calls with (done, total) of a long stage, for the driver to pass on.

    It writes no more often than the driver looks.
    """
    before = 0.0

    def note(done: int, total: int) -> None:
        nonlocal before
        if time.monotonic() - before >= _LOOK_SECONDS:
            before = time.monotonic()
            write_atomic(_note(corpus, stage), json.dumps([done, total]))

    return note


def _note(corpus: Path, stage: str) -> Path:
    return corpus / WORK / "progress" / f"{stage}.json"


class Tasks:
    """Ray tasks that run side by side, each of a named stage.

    Args:
        corpus: directory of the corpus.
        progress: told (stage, done, total).
    """

    def __init__(self, corpus: Path, progress: Progress) -> None:
        self._corpus = corpus
        self._progress = progress
        self._pending: dict[Any, tuple[str, int]] = {}
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def add(
        self,
        stage: str,
        function: Callable[..., Any],
        *args: Any,
        done: bool,
        amount: int = 1,
        cpus: float = 1.0,
    ) -> Any:
        """Submit a task unless it is done; return what a later task can take to wait for it."""
        import ray

        self._total[stage] = self._total.get(stage, 0) + amount
        self._done.setdefault(stage, 0)
        if done:
            self._done[stage] += amount
            return None
        reference = ray.remote(num_cpus=cpus, name=stage)(function).remote(*args)
        self._pending[reference] = (stage, amount)
        return reference

    def wait(self) -> None:
        """Wait for all tasks; the first that fails raises its own error."""
        import ray
        from ray.exceptions import RayTaskError

        for stage, total in self._total.items():
            self._progress(stage, self._done[stage], total)
        while self._pending:
            ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=_LOOK_SECONDS)
            for reference in ready:
                try:
                    ray.get(reference)
                except RayTaskError as error:
                    # The worker's error says what to do; the traceback of its process does not.
                    raise (error.cause if isinstance(error.cause, Exception) else error) from None
                stage, amount = self._pending.pop(reference)
                self._done[stage] += amount
                self._progress(stage, self._done[stage], self._total[stage])
            self._look()
        self._total.clear()
        self._done.clear()

    def _look(self) -> None:
        """Pass on the steps that long tasks note in files."""
        for stage, _ in set(self._pending.values()):
            try:
                note = _note(self._corpus, stage).read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            step, steps = json.loads(note)
            if step < steps:
                self._progress(stage, step, steps)
