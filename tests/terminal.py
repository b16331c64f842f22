"""A terminal, or none, that a test reads; and a clock that it moves."""

from __future__ import annotations

import io

from rich.console import Console


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=130, color_system=None), out
