"""The table of a search: each language's references and best schedule, with their intervals.

One set of rows, shown as a terminal table and as the Markdown of `report/table.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from raystt import schedule as schedules
from raystt.report.results import REFERENCES

NOTE = (
    "[lo, hi]: 95 % bootstrap interval. The best was chosen by its {split} score, which flatters "
    "it; {honest}"
)


@dataclass(frozen=True)
class Row:
    """One line of the table, as text; `test` is None if the summary has no report split."""

    language: str
    run: str
    schedule: str
    score: str
    test: str | None
    best: bool = False


def schedule_label(schedule: Mapping[str, Any]) -> str:
    """Return the short label of a schedule's dict; its shape if this version does not know it."""
    try:
        return schedules.from_dict(dict(schedule)).label()
    except ValueError:
        return str(schedule.get("shape", "?"))


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """Return the table's lines: each language's references, then its best."""
    has_test = bool(summary.get("report_split")) and summary["report_split"] != summary["split"]
    lines = []
    for language, entry in summary["languages"].items():
        pairs = entry.get("pairs")
        title = language if pairs is None else f"{language}, {pairs}"
        references = entry["references"]
        names = [*REFERENCES, *(name for name in references if name not in REFERENCES)]
        runs = [(name, references[name]) for name in names if name in references]
        runs.append(("best", entry["best"]))
        for name, run in runs:
            if run is None:
                lines.append(Row(title, name, "", "no finished trial", "-" if has_test else None))
                continue
            heading = name
            if name == "best":
                heading += f" = {run['reference']}" if run["reference"] else f", #{run['trial']}"
            score = "diverged" if run["status"] == "diverged" else _interval(run)
            test = _interval(run["test"]) if "test" in run else "-"
            label = schedule_label(run["schedule"])
            lines.append(
                Row(title, heading, label, score, test if has_test else None, name == "best")
            )
    return lines


def _interval(entry: Mapping[str, Any]) -> str:
    low, high = entry["ci"]
    return f"{entry['asr_bleu']:.1f} [{low:.1f}, {high:.1f}]"


def _titles(summary: Mapping[str, Any]) -> list[str]:
    titles = ["pairs", "run", "schedule", f"ASR-BLEU, {summary['split']}"]
    if summary.get("report_split") and summary["report_split"] != summary["split"]:
        titles.append(f"ASR-BLEU, {summary['report_split']}")
    return titles


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what has to be read with the numbers, the signature first."""
    report = summary.get("report_split")
    honest = (
        f"the {report} score chose nothing."
        if report and report != summary["split"]
        else "confirm it on a split that chose nothing."
    )
    notes = [summary["signature"]] if summary["signature"] else []
    notes.append(NOTE.format(split=summary["split"], honest=honest))
    for language, entry in summary["languages"].items():
        ceiling = entry.get("ceiling", {})
        parts = [
            f"{kind} {_interval(ceiling[kind])}"
            for kind in ("resynthesis", "audio")
            if kind in ceiling
        ]
        if parts:
            notes.append(f"Ceiling of {language}, reference speech: {', '.join(parts)}.")
    notes.append(
        f"{summary['trials']} trials in {summary['wall_s'] / 60:.1f} min; "
        f"overhead {summary['overhead_s_per_trial']:.2f} s a trial."
    )
    return notes


def terminal(summary: Mapping[str, Any]) -> Table:
    """Return the table for a rich console, the signature under it."""
    table = Table(
        title=summary["name"],
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, title in enumerate(_titles(summary)):
        # Where 80 columns do not hold it all, the schedule's label alone takes a second line.
        table.add_column(title, justify="left" if index < 3 else "right", no_wrap=index != 2)
    before = ""
    for row in rows(summary):
        if before not in ("", row.language):
            table.add_section()
        cells = [row.language if row.language != before else "", row.run, row.schedule, row.score]
        if row.test is not None:
            cells.append(row.test)
        table.add_row(*map(Text, cells), style="bold" if row.best else "")
        before = row.language
    table.caption = Text("\n".join(_notes(summary)))
    return table


def markdown(summary: Mapping[str, Any]) -> str:
    """Return the table and its notes as Markdown."""
    titles = _titles(summary)
    marks = ["---"] * 3 + ["---:"] * (len(titles) - 3)
    lines = [f"# {summary['name']}", "", _cells(titles), _cells(marks)]
    for row in rows(summary):
        cells = [row.language, row.run, row.schedule, row.score]
        if row.test is not None:
            cells.append(row.test)
        lines.append(_cells([f"**{cell}**" if row.best and cell else cell for cell in cells]))
    signature, *notes = _notes(summary) if summary["signature"] else ["", *_notes(summary)]
    lines += ["", f"Signature: `{signature}`" if signature else "No trial was scored."]
    for note in notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _cells(cells: list[str]) -> str:
    # A bar would end the cell: signatures and labels may hold one.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
