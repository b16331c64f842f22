"""The table of a search for a terminal, short enough for 80 columns."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from raystt.config import BASELINE
from raystt.report.tables import notes, rows, verdicts
from raystt.schedule import Apart, Constant, Knots, Schedule
from raystt.searching.summary import Summary

_SHORT = {
    "constant": "const",
    "linear": "lin",
    "cosine": "cos",
    "exponential": "exp",
    "polynomial": "poly",
    "sigmoid": "sigm",
    "staircase": "stair",
}


def short_label(schedule: Schedule | Apart) -> str:
    """Return a label for narrow columns, such as `stair 0.9→0 @0.8` or `poly^2 0.9→0 @0.1-0.8`.

    After the @: the progress at which the fall ends, or begins and ends.
    """
    if isinstance(schedule, Apart):
        return " / ".join(map(short_label, schedule.sides()))
    values = schedule.model_dump()
    initial, final, hold, end = (
        f"{round(values[key], 2):g}" for key in ("initial", "final", "hold", "end")
    )
    name = _SHORT.get(schedule.shape, schedule.shape)
    if isinstance(schedule, Constant):
        return f"{name} {initial}"
    # The steps of a staircase hardly differ; a power does.
    own = values.keys() - {"shape", "initial", "final", "hold", "end", "step"}
    own -= Knots.model_fields.keys()  # their numbers are too many
    name = "^".join([name, *(f"{values[key]:.2g}" for key in sorted(own))])
    return f"{name} {initial}→{final} @{end if hold == '0' else f'{hold}-{end}'}"


def terminal(summary: Summary) -> Table:
    """Return the first table for a rich console of 80 columns or more; metrics are left out."""
    table = Table(
        title=f"{summary.name}: ASR-BLEU [95 % interval]",
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    table.add_column("\nrun", overflow="fold")
    # What is too long for 80 columns goes on in a second line: nothing is cut.
    table.add_column("\nschedule", overflow="fold")
    table.add_column(f"\n{summary.split}", justify="right", no_wrap=True)
    table.add_column(f"vs\n{BASELINE}", justify="right", no_wrap=True)
    if summary.has_test:
        table.add_column(f"\n{summary.report_split}", justify="right", no_wrap=True)
    before = ""
    for row in rows(summary):
        if row.language != before:
            table.add_row()
            table.add_row(Text(row.language))
            before = row.language
        last = [] if row.test is None else [row.test]
        label = short_label(row.schedule) if row.schedule else ""
        cells = [f" {row.run}", label, row.score, row.against, *last]
        table.add_row(*map(Text, cells), style="bold" if row.best else "")
    table.caption = Text("\n" + "\n".join([*verdicts(summary), *notes(summary)]))
    return table
