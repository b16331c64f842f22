"""The tables of a search as Markdown, and what has to be read with them (`report/table.md`)."""

from __future__ import annotations

from raystt.config import BASELINE, OBJECTIVES
from raystt.report.tables import (
    against,
    best_name,
    ceiling_notes,
    interval,
    language_title,
    measured,
    metrics,
    notes,
    rows,
    scored,
    verdicts,
)
from raystt.searching.summary import Summary


def markdown(summary: Summary) -> str:
    """Return both tables and what has to be read with them as Markdown."""
    titles = _titles(summary)
    lines = [f"# {summary.name}", "", *_head(titles, 3)]
    for row in rows(summary):
        label = row.schedule.label() if row.schedule else ""
        cells = [row.language, row.run, label, row.score, row.against, *row.metrics]
        cells += [] if row.test is None else [row.test]
        lines.append(_cells([f"**{cell}**" if row.best and cell else cell for cell in cells]))
    scored_by = f"Signature: `{summary.signature}`" if summary.signature else "No trial was scored."
    lines += ["", scored_by]
    for note in [*verdicts(summary), *notes(summary), *ceiling_notes(summary)]:
        lines += ["", note]
    lines += _confirmed(summary) + _neighbours(summary) + _front(summary)
    listed = [*titles[:1], "trial", *titles[1 : 5 + len(metrics(summary))]]
    lines += ["", "## All trials", "", *_head(listed, 4)]
    for language in summary.languages:
        mine = sorted(language.results, key=lambda r: (-r.value(summary.objective), r.trial))
        for one in mine:
            cells = [language_title(language), f"#{one.trial}", one.reference or ""]
            cells += [one.schedule.label(), scored(one), against(language, one)]
            lines.append(_cells([*cells, *measured(summary, one)]))
    return "\n".join(lines) + "\n"


def _titles(summary: Summary) -> list[str]:
    titles = ["pairs", "run", "schedule", f"ASR-BLEU, {summary.split}", f"vs {BASELINE}"]
    titles += [title for _, title, _ in metrics(summary)]
    return titles + ([f"ASR-BLEU, {summary.report_split}"] if summary.has_test else [])


def _confirmed(summary: Summary) -> list[str]:
    """Return the table of what was trained anew on fresh seeds; nothing if nothing was."""
    lines = []
    for language in summary.languages:
        title, best = language_title(language), language.best
        fresh = {
            name: line.fresh
            for name, line in language.references.items()
            if line.fresh and (best is None or name != best.result.reference)
        }
        if best and best.fresh:
            fresh[best_name(best.result)] = best.fresh
        for name, found in fresh.items():
            cells = [title, name, ", ".join(map(str, found.seeds))]
            cells.append(interval(found.score, found.ci))
            held = language.differences.get(name)
            cells.append(f"{interval(held.score, held.ci)}, p = {held.p:.3f}" if held else "")
            lines.append(_cells(cells))
        if language.optimism is not None:
            lines.append(_cells([title, "optimism", "", "", f"{language.optimism:+.1f}"]))
    if not lines:
        return []
    score = f"{OBJECTIVES[summary.objective]}, {summary.report_split or summary.split}"
    titles = ["pairs", "run", "seeds", score, "best minus it"]
    return [
        "", "## On fresh seeds", "",
        "Means over fresh seeds, with 95 % intervals over seeds and sentences; p by Holm's method. "
        f"The best has the highest mean on {summary.split}. Optimism: the highest score of what "
        f"was confirmed, minus that trial's mean over fresh seeds, both on {summary.split}.",
        "", *_head(titles, 3), *lines,
    ]  # fmt: skip


def _neighbours(summary: Summary) -> list[str]:
    """Return the table of what stands next to the best; nothing if it was not asked for."""
    lines = []
    for language in summary.languages:
        for one in language.certificate.neighbours if language.certificate else ():
            held = one.difference
            cells = [language_title(language), one.knob, f"{one.value:g}"]
            lines.append(_cells([*cells, f"{interval(held.score, held.ci)}, p = {held.p:.3f}"]))
    if not lines:
        return []
    titles = ["pairs", "key", "value", f"{OBJECTIVES[summary.objective]}, it minus the best"]
    text = "Each number of the best a notch up or down, trained on the same fresh seeds."
    return ["", "## Neighbours of the best", "", text, "", *_head(titles, 2), *lines]


def _front(summary: Summary) -> list[str]:
    """Return the table of the trials that none beats in score and in cost."""
    lines = [
        _cells([language_title(language), f"#{one.trial}", f"{one.value(summary.objective):.1f}",
                f"{summary.device_seconds(one):.0f}"])
        for language in summary.languages for one in language.pareto
    ]  # fmt: skip
    if not lines:
        return []
    score = f"{OBJECTIVES[summary.objective]}, {summary.split}"
    titles = ["pairs", "trial", score, "device-seconds"]
    text = "Trials that no other one beats both in score and in what its training took."
    return ["", "## Score against cost", "", text, "", *_head(titles, 2), *lines]


def _head(titles: list[str], words: int) -> list[str]:
    """Return the first two lines of a table whose columns after `words` hold numbers."""
    return [_cells(titles), _cells(["---"] * words + ["---:"] * (len(titles) - words))]


def _cells(cells: list[str]) -> str:
    # A bar would end the cell: signatures and labels may hold one.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
