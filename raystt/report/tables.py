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

NOTE = (
    "[lo, hi]: 95 % bootstrap interval. The best was chosen by its {split} score, which flatters "
    "it; {honest}"
)


# What may stand beside ASR-BLEU, on the split that trials are compared on: key, title, digits.
METRICS = (("chrf", "chrF", 1), ("text_bleu", "text BLEU", 1), ("utmos", "UTMOS", 2))


@dataclass(frozen=True)
class Row:
    """One line of the table, as text.

    `metrics` are those that any run of the summary has; `test` is None if the summary has no
    report split.
    """

    language: str
    run: str
    schedule: str
    score: str
    metrics: tuple[str, ...]
    test: str | None
    best: bool = False

    @property
    def cells(self) -> list[str]:
        """The cells after the language's."""
        last = [] if self.test is None else [self.test]
        return [self.run, self.schedule, self.score, *self.metrics, *last]


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
        runs = [*entry["references"].items(), ("best", entry["best"])]
        for name, run in runs:
            if run is None:
                nothing = ("-",) * len(_metrics(summary))
                last = "-" if has_test else None
                lines.append(Row(title, name, "", "no finished trial", nothing, last))
                continue
            heading = name
            if name == "best":
                heading += f" = {run['reference']}" if run["reference"] else f", #{run['trial']}"
            score = "diverged" if run["status"] == "diverged" else _interval(run)
            test = _interval(run["test"]) if "test" in run else "-"
            label = schedule_label(run["schedule"])
            found = run.get("metrics", {})
            metrics = tuple(
                f"{found[key]:.{digits}f}" if key in found else "-"
                for key, _, digits in _metrics(summary)
            )
            last = test if has_test else None
            lines.append(Row(title, heading, label, score, metrics, last, name == "best"))
    return lines


def _metrics(summary: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return the metrics that any run of the summary has."""
    entries = summary["languages"].values()
    runs = [run for e in entries for run in (*e["references"].values(), e["best"]) if run]
    return [metric for metric in METRICS if any(metric[0] in r.get("metrics", {}) for r in runs)]


def _interval(entry: Mapping[str, Any]) -> str:
    low, high = entry["ci"]
    return f"{entry['asr_bleu']:.1f} [{low:.1f}, {high:.1f}]"


def _titles(summary: Mapping[str, Any]) -> list[str]:
    titles = ["pairs", "run", "schedule", f"ASR-BLEU, {summary['split']}"]
    titles += [title for _, title, _ in _metrics(summary)]
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
    notes += [
        _ceiling(language, split, ceiling, entry.get("signature"))
        for language, entry in summary["languages"].items()
        for split, ceiling in entry.get("ceilings", {}).items()
    ]
    notes.append(
        f"{summary['trials']} trials in {summary['wall_s'] / 60:.1f} min; "
        f"overhead {summary['overhead_s_per_trial']:.2f} s a trial."
    )
    return notes


def _ceiling(language: str, split: str, ceiling: Mapping[str, Any], signature: str | None) -> str:
    """Say what the same evaluation gives to reference speech: no system can score more."""
    scores = ", ".join(f"{kind} {_interval(ceiling[kind])}" for kind in ("resynthesis", "audio"))
    line = f"Ceiling of {language} on {split}, reference speech: {scores}."
    other = ceiling["resynthesis"]["signature"]
    if signature and signature != other:
        line += f" It was scored in another way, and does not compare: {other}"
    return line


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
        cells = [row.language if row.language != before else "", *row.cells]
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
        cells = [row.language, *row.cells]
        lines.append(_cells([f"**{cell}**" if row.best and cell else cell for cell in cells]))
    signature, *notes = _notes(summary) if summary["signature"] else ["", *_notes(summary)]
    lines += ["", f"Signature: `{signature}`" if signature else "No trial was scored."]
    for note in notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _cells(cells: list[str]) -> str:
    # A bar would end the cell: signatures and labels may hold one.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
