"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from raystt.progress import (
    LanguageProgress,
    Running,
    SearchProgress,
    Snapshot,
    StageProgress,
    duration,
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=130, color_system=None), out


def snapshot(done: int = 3, step: int = 120, elapsed: float = 65.0) -> Snapshot:
    return Snapshot(
        elapsed_s=elapsed,
        languages=(
            LanguageProgress("es", done, 12, 44.6, "linear 0.9→0 by 0.8"),
            LanguageProgress("fr", 0, 12),
        ),
        running=(
            Running("train", "es", done, "cosine 0.9→0 by 0.7", step, 350, 0.63, 2.1),
            Running("evaluate", "es", done - 1, "constant 0.3", 32, 64),
        ),
        left_s=600.0,
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (47.4, "47 s"), (365, "6 min 05 s"), (12000, "3 h 20 min"), (-1, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_plain_line_tells_all() -> None:
    terminal, out = console(terminal=False)
    with SearchProgress("quickstart", console=terminal) as progress:
        progress.update(snapshot())
    assert out.getvalue() == (
        "[1 min 05 s] quickstart | es 3/12 best 44.6 (linear 0.9→0 by 0.8) | fr 0/12 | "
        "train es#3 120/350 ratio 0.63 loss 2.100 | evaluate es#2 32/64 | "
        "about 10 min 00 s left\n"
    )


def test_plain_lines_come_at_changes_and_not_too_often() -> None:
    terminal, out = console(terminal=False)
    clock = Clock()
    with SearchProgress("toy", console=terminal, interval_s=5.0, clock=clock) as progress:
        for second in range(20):
            clock.now += 1.0
            # Steps move for ten seconds, then only the time does.
            progress.update(snapshot(step=min(second, 10), elapsed=float(second)))
    lines = out.getvalue().splitlines()
    assert [line.split("]")[0] for line in lines] == ["[0 s", "[5 s", "[10 s"]


def test_the_last_state_is_printed_even_if_it_came_early() -> None:
    terminal, out = console(terminal=False)
    with SearchProgress("toy", console=terminal, clock=Clock()) as progress:
        progress.update(snapshot(done=11))
        progress.update(snapshot(done=12))
    assert "es 12/12" in out.getvalue().splitlines()[-1]


def test_a_terminal_shows_a_panel_and_keeps_messages() -> None:
    terminal, out = console(terminal=True)
    with SearchProgress("toy", console=terminal) as progress:
        progress.update(snapshot())
        progress.message("a trainer worker was lost; its segment runs again")
        progress.update(snapshot(step=130))
    text = out.getvalue()
    for part in ("best ASR-BLEU", "44.6", "linear 0.9→0 by 0.8", "130/350", "0.63", "was lost"):
        assert part in text


def test_the_panel_is_taken_down_when_the_search_fails() -> None:
    terminal, _ = console(terminal=True)
    with pytest.raises(RuntimeError), SearchProgress("toy", console=terminal) as progress:
        progress.update(snapshot())
        raise RuntimeError
    with SearchProgress("toy", console=terminal):  # a console takes one live panel at a time
        pass


def test_stages_print_their_start_and_their_end() -> None:
    terminal, out = console(terminal=False)
    clock = Clock()
    with StageProgress(console=terminal, clock=clock) as progress:
        for done in range(4):
            progress("speech", done, 3)
            clock.now += 2.0
        progress("speech", 3, 3)
        progress("vocoder", 5, 5)
        progress("download", 7, 0)
    assert out.getvalue().splitlines() == [
        "speech: 0/3",
        "speech: 3/3, 6 s",
        "vocoder: 5/5",
        "download: 7",
    ]


def test_stages_on_a_terminal_leave_one_line_each() -> None:
    terminal, out = console(terminal=True)
    with StageProgress(console=terminal) as progress:
        for stage in ("speech", "units"):
            for done in range(11):
                progress(stage, done, 10)
    assert "speech: 10/10" in out.getvalue() and "units: 10/10" in out.getvalue()


def test_stages_may_run_side_by_side() -> None:
    terminal, out = console(terminal=False)
    clock = Clock()
    with StageProgress(console=terminal, clock=clock) as progress:
        for done in range(5):
            progress("vocoder", done, 4)
            progress("base", 2 * done, 8)
            clock.now += 1.0
        progress("base", 8, 8)
    assert out.getvalue().splitlines() == [
        "vocoder: 0/4",
        "base: 0/8",
        "vocoder: 4/4, 4 s",
        "base: 8/8, 4 s",
    ]


def test_stages_leave_the_terminal_to_the_search_that_follows() -> None:
    terminal, out = console(terminal=True)
    with StageProgress(console=terminal) as stages, SearchProgress("toy", console=terminal) as toy:
        stages("speech", 1, 2)
        stages("speech", 2, 2)
        toy.message("starting")
        toy.update(snapshot())
    assert "speech: 2/2" in out.getvalue() and "best ASR-BLEU" in out.getvalue()
