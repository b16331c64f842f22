"""The tables of a search as Markdown, and what has to be read with them (`report/table.md`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from raystt.config import BASELINE, OBJECTIVES
from raystt.ranking import latest
from raystt.report.tables import (
    against,
    best_name,
    ceiling_notes,
    has_test,
    interval,
    language_title,
    measured,
    metrics,
    notes,
    rows,
    verdicts,
)
from raystt.results import Result


def markdown(summary: Mapping[str, Any], results: Iterable[Result]) -> str:
    """Return both tables and what has to be read with them as Markdown."""
    titles = _titles(summary)
    lines = [f"# {summary['name']}", "", *_head(titles, 3)]
    for row in rows(summary):
        label = row.schedule.label() if row.schedule else ""
        cells = [row.language, row.run, label, row.score, row.against, *row.metrics]
        cells += [] if row.test is None else [row.test]
        lines.append(_cells([f"**{cell}**" if row.best and cell else cell for cell in cells]))
    signature = summary["signature"]
    lines += ["", f"Signature: `{signature}`" if signature else "No trial was scored."]
    for note in [*verdicts(summary), *notes(summary), *ceiling_notes(summary)]:
        lines += ["", note]
    lines += _confirmed(summary) + _neighbours(summary) + _front(summary)
    listed = [*titles[:1], "trial", *titles[1 : 5 + len(metrics(summary))]]
    lines += ["", "## All trials", "", *_head(listed, 4)]
    done = [r for r in latest(results) if r.split == summary["split"]]
    for language, entry in summary["languages"].items():
        mine = [result for result in done if result.language == language]
        for one in sorted(mine, key=lambda r: (-r.value(summary["objective"]), r.trial)):
            score = {"asr_bleu": one.asr_bleu, "ci": one.ci}
            cells = [language_title(language, entry), f"#{one.trial}", one.reference or ""]
            cells += [one.schedule.label()]
            cells += [interval(score) if one.status == "complete" else one.status]
            cells += [against(entry, one.asr_bleu, one.status)]
            lines.append(_cells([*cells, *measured(summary, one.metrics)]))
    return "\n".join(lines) + "\n"


def _titles(summary: Mapping[str, Any]) -> list[str]:
    titles = ["pairs", "run", "schedule", f"ASR-BLEU, {summary['split']}", f"vs {BASELINE}"]
    titles += [title for _, title, _ in metrics(summary)]
    return titles + ([f"ASR-BLEU, {summary['report_split']}"] if has_test(summary) else [])


def _confirmed(summary: Mapping[str, Any]) -> list[str]:
    """Return the table of what was trained anew on fresh seeds; nothing if nothing was."""
    lines, objective = [], summary["objective"]
    for language, entry in summary["languages"].items():
        best = entry["best"] or {}
        fresh = {
            name: run["fresh"]
            for name, run in entry["references"].items()
            if run and "fresh" in run and name != best.get("reference")
        }
        if "fresh" in best:
            fresh[best_name(best)] = best["fresh"]
        for name, found in fresh.items():
            cells = [language_title(language, entry), name, ", ".join(map(str, found["seeds"]))]
            cells.append(interval(found, objective))
            held = best.get("difference", {}).get(name)
            cells.append(f"{interval(held, objective)}, p = {held['p']:.3f}" if held else "")
            lines.append(_cells(cells))
        if best.get("optimism") is not None:
            lines.append(_cells([language_title(language, entry), "optimism", "", "",
                                 f"{best['optimism']:+.1f}"]))  # fmt: skip
    if not lines:
        return []
    split = summary["report_split"] or summary["split"]
    titles = ["pairs", "run", "seeds", f"{OBJECTIVES[objective]}, {split}", "best minus it"]
    return [
        "", "## On fresh seeds", "",
        "Means over fresh seeds, with 95 % intervals over seeds and sentences; p by Holm's method. "
        f"The best has the highest mean on {summary['split']}. Optimism: the highest score of what "
        f"was confirmed, minus that trial's mean over fresh seeds, both on {summary['split']}.",
        "", *_head(titles, 3), *lines,
    ]  # fmt: skip


def _neighbours(summary: Mapping[str, Any]) -> list[str]:
    """Return the table of what stands next to the best; nothing if it was not asked for."""
    objective, lines = summary["objective"], []
    for language, entry in summary["languages"].items():
        for one in (entry["best"] or {}).get("certificate", {}).get("neighbours", []):
            difference = f"{interval(one, objective)}, p = {one['p']:.3f}"
            cells = [language_title(language, entry), one["knob"], f"{one['value']:g}", difference]
            lines.append(_cells(cells))
    if not lines:
        return []
    titles = ["pairs", "key", "value", f"{OBJECTIVES[objective]}, it minus the best"]
    text = "Each number of the best a notch up or down, trained on the same fresh seeds."
    return ["", "## Neighbours of the best", "", text, "", *_head(titles, 2), *lines]


def _front(summary: Mapping[str, Any]) -> list[str]:
    """Return the table of the trials that none beats in score and in cost."""
    objective = summary["objective"]
    lines = [
        _cells([language_title(language, entry), f"#{one['trial']}", f"{one[objective]:.1f}",
                f"{one['device_seconds']:.0f}"])
        for language, entry in summary["languages"].items() for one in entry["pareto"]
    ]  # fmt: skip
    if not lines:
        return []
    titles = ["pairs", "trial", f"{OBJECTIVES[objective]}, {summary['split']}", "device-seconds"]
    text = "Trials that no other one beats both in score and in what its training took."
    return ["", "## Score against cost", "", text, "", *_head(titles, 2), *lines]


def _head(titles: list[str], words: int) -> list[str]:
    """Return the first two lines of a table whose columns after `words` hold numbers."""
    return [_cells(titles), _cells(["---"] * words + ["---:"] * (len(titles) - words))]


def _cells(cells: list[str]) -> str:
    # A bar would end the cell: signatures and labels may hold one.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
