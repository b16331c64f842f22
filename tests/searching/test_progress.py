"""Progress of a search on a terminal and in a log, and the time left."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from terminal import Clock, console

from raystt.progress import StageProgress
from raystt.searching.progress import (
    Ended,
    LanguageProgress,
    Running,
    SearchProgress,
    Snapshot,
    event,
    left_of_equal,
    line,
    time_left,
)

ENDED = Ended("es#3", "complete", "linear 0.9→0 by 0.8", 41.26)


def snapshot(done: int = 3, step: int = 120, elapsed: float = 65.0, **more: Any) -> Snapshot:
    return Snapshot(
        elapsed_s=elapsed,
        languages=(
            LanguageProgress("es", done, 12, 44.6, "linear 0.9→0 by 0.8"),
            LanguageProgress("fr", 0, 12),
        ),
        running=(
            Running("train", "es", 4, "cosine 0.9→0 by 0.7", step, 350, 0.63, 2.1),
            Running("evaluate", "es", 2, "constant 0.3"),
        ),
        parallel=2,
        stepping_s=elapsed,
        **more,
    )


def search(
    done: int,
    total: int,
    *fractions: float,
    elapsed: float,
    slots: int = 2,
    failed: int = 0,
    setup: float | None = 0.0,
    confirmations: int = 0,
) -> Snapshot:
    """A search of one language; its running trials are as far as `fractions` say."""
    ended = [Ended(f"es#{n}", "complete", "constant 0.3", 1.0) for n in range(done)]
    return Snapshot(
        elapsed_s=elapsed,
        languages=(LanguageProgress("es", done, total),),
        running=tuple(
            Running("train", "es", n, done=round(100 * f), total=100)
            for n, f in enumerate(fractions)
        ),
        ended=tuple(ended),
        failed=failed,
        parallel=slots,
        stepping_s=None if setup is None else elapsed - setup,
        confirmations=confirmations,
    )


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        # Trials of 100 s on two slots: twelve take 600 s.
        (search(0, 12, 0.5, 0.5, elapsed=50), 550),
        (search(0, 12, 0.1, 0.1, elapsed=10), 590),
        (search(4, 12, 0.5, 0.5, elapsed=250), 350),
        (search(10, 12, 0.5, 0.5, elapsed=550), 50),
        (search(11, 12, 0.5, elapsed=575), 50),  # the other slot ended half a trial before
        (search(12, 12, elapsed=600), 0),
        # An odd trial is left over for one slot.
        (search(0, 3, 0.5, 0.5, elapsed=50), 150),
        # More slots than trials.
        (search(0, 2, 0.5, 0.5, elapsed=50, slots=8), 50),
        # A trial that failed is not waited for.
        (search(3, 6, 0.5, 0.5, elapsed=250, failed=1), 50),
        # Workers took 40 s before the first step.
        (search(0, 12, 0.1, 0.1, elapsed=50, setup=40), 590),
        # Four trainings on fresh seeds follow.
        (search(10, 12, 0.5, 0.5, elapsed=550, confirmations=4), 250),
    ],
)
def test_the_time_left_counts_steps_of_running_trials(state: Snapshot, seconds: float) -> None:
    left = time_left(state)
    assert left is not None
    assert abs(left - seconds) <= 0.05 * 600


def test_when_all_trials_are_done_nothing_is_known_of_what_is_left() -> None:
    """Those that confirm are trained by the same trainers, and are no trials."""
    assert time_left(search(4, 4, 0.5, 0.5, elapsed=50)) is None
    assert time_left(search(4, 4, elapsed=50, confirmations=4)) is None


def test_the_time_left_is_not_told_too_early() -> None:
    assert time_left(search(0, 12, elapsed=5)) is None
    assert time_left(search(0, 12, 0.5, elapsed=5, setup=None)) is None
    assert time_left(search(0, 12, 0.01, 0.01, elapsed=5)) is None


def test_an_estimate_for_many_trials_is_made_at_once() -> None:
    left = time_left(search(1, 10**9, 0.0, 0.0, elapsed=50))
    assert left is not None and left > 1e9


def test_what_is_evaluated_needs_no_trainer() -> None:
    state = search(0, 2, elapsed=100)
    waiting = dataclasses.replace(state, running=(Running("evaluate", "es", 0),), parallel=1)
    assert time_left(waiting) == 100


@pytest.mark.parametrize(("at_once", "left"), [(1, 700.0), (2, 1300 / 3), (4, 220.0)])
def test_what_runs_beside_a_job_that_ends_is_half_done(at_once: int, left: float) -> None:
    assert left_of_equal(100.0, 1, 8, at_once) == pytest.approx(left)
    assert left_of_equal(100.0, 8, 8, at_once) == 0.0


def test_a_plain_line_tells_all() -> None:
    text = line("quickstart", snapshot())
    assert text.startswith("[1 min 05 s] quickstart 3/24, about ")
    assert text.endswith(" left | es 3/12 best 44.6, fr 0/12 | es#4 120/350, es#2 evaluate")


def test_plain_lines_are_short() -> None:
    state = snapshot()
    many = dataclasses.replace(
        state, languages=state.languages * 7, running=state.running * 16, parallel=16
    )
    long = dataclasses.replace(ENDED, schedule="linear 0.9→0 by 0.8, " * 9)
    for text in (line("quickstart", many), event(many, long)):
        assert len(text) < 120 and text.endswith("…")
    assert "quickstart 21/168" in line("quickstart", many)
    assert "es#3 ASR-BLEU 41.3" in event(many, long)


def test_plain_lines_come_at_events_and_each_half_minute() -> None:
    terminal, out = console(terminal=False)
    clock = Clock()
    ended = (ENDED, Ended("es#1", "diverged", "constant 0.3", 0.0))
    with SearchProgress("toy", console=terminal, clock=clock) as progress:
        for second in range(70):
            clock.now += 1.0
            known = ended[: (second >= 10) + (second >= 12)]
            progress.update(snapshot(step=second, elapsed=float(second), ended=known))
    lines = out.getvalue().splitlines()
    assert [text.split("]")[0] for text in lines] == ["[10 s", "[12 s", "[42 s"]
    assert "es#3 ASR-BLEU 41.3, linear 0.9→0 by 0.8" in lines[0]
    assert "es#1 diverged, constant 0.3" in lines[1]
    assert "toy 3/24" in lines[2]


def test_a_terminal_shows_bars_and_keeps_events() -> None:
    terminal, out = console(terminal=True)
    with SearchProgress("toy", console=terminal) as progress:
        progress.update(snapshot())
        progress.message("a trainer was lost; its segment runs again")
        progress.update(snapshot(step=130, ended=(ENDED,)))
    text = out.getvalue()
    for part in (
        "best 44.6",
        "linear 0.9→0 by 0.8",
        "130/350",
        "0.63",
        "was lost",
        "ASR-BLEU 41.3",
    ):
        assert part in text


def test_the_panel_is_taken_down_when_the_search_fails() -> None:
    terminal, _ = console(terminal=True)
    with pytest.raises(RuntimeError), SearchProgress("toy", console=terminal) as progress:
        progress.update(snapshot())
        raise RuntimeError
    with SearchProgress("toy", console=terminal):  # a console takes one live panel at a time
        pass


def test_stages_leave_the_terminal_to_the_search_that_follows() -> None:
    terminal, out = console(terminal=True)
    with StageProgress(console=terminal) as stages, SearchProgress("toy", console=terminal) as toy:
        stages("speech", 1, 2)
        stages("speech", 2, 2)
        toy.message("starting")
        toy.update(snapshot())
    assert "speaking the sentences, 2 pairs" in out.getvalue()
    assert "best 44.6" in out.getvalue()
