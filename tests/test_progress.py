"""Progress of a preparation on a terminal and in a log."""

from __future__ import annotations

import pytest
from terminal import Clock, console

from raystt.progress import StageProgress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (47.4, "47 s"), (365, "6 min 05 s"), (12000, "3 h 20 min"), (-1, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_stages_print_what_they_are_and_how_many_follow() -> None:
    terminal, out = console(terminal=False)
    clock = Clock()
    with StageProgress(console=terminal, clock=clock) as progress:
        for stage in ("speech", "units", "vocoder"):
            progress(stage, 0, 0)
        for done in range(4):
            progress("speech", done, 3)
            clock.now += 2.0
        progress("speech", 3, 3)
        progress("units", 5, 5)
        progress("download", 7, 0)
    assert out.getvalue().splitlines() == [
        "1/3 speech: speaking the sentences ...",
        "1/3 speech: speaking the sentences, 3 pairs, 6 s",
        "2/3 units: encoding a sample of the speech, 5 pairs",
        "download: download ...",
    ]


def test_stages_on_a_terminal_leave_one_line_each() -> None:
    terminal, out = console(terminal=True)
    with StageProgress(console=terminal) as progress:
        for stage in ("speech", "units"):
            for done in range(11):
                progress(stage, done, 10)
    for stage in ("speech", "units"):
        assert len([text for text in out.getvalue().splitlines() if f"{stage}: " in text
                    and "10 pairs" in text]) == 1  # fmt: skip
    assert "0/10" in out.getvalue()


def test_stages_may_run_side_by_side() -> None:
    terminal, out = console(terminal=False)
    clock = Clock()
    with StageProgress(console=terminal, clock=clock) as progress:
        for done in range(41):
            progress("vocoder", done, 41)
            progress("base", 2 * done, 80)
            clock.now += 1.0
    assert out.getvalue().splitlines() == [
        "vocoder: fitting the vocoder ...",
        "base: training the text language model ...",
        "vocoder: 30/41; base: 58/80",
        "base: training the text language model, 80 steps, 40 s",
    ]
