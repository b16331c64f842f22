"""The tables of a search: each language's references and best schedule, then all its trials.

On a terminal the first, short enough for 80 columns; in `report/table.md` both, and what has to be
read with the numbers: signature, ceilings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from raystt.config import BASELINE, OBJECTIVES
from raystt.results import Result, latest
from raystt.schedule import Apart, Constant, Knots, Schedule, from_dict

NOTE = (
    "[lo, hi]: 95 % bootstrap interval. The best was chosen by its {split} score, which flatters "
    "it; {honest}"
)

# What may stand beside ASR-BLEU, on the split that trials are compared on: key, title, digits.
METRICS = (("chrf", "chrF", 1), ("text_bleu", "text BLEU", 1), ("utmos", "UTMOS", 2))

FLOOR = "none"
"""The reference that shows what nothing gives."""

_SHORT = {
    "constant": "const",
    "linear": "lin",
    "cosine": "cos",
    "exponential": "exp",
    "polynomial": "poly",
    "sigmoid": "sigm",
    "staircase": "stair",
}


@dataclass(frozen=True)
class Row:
    """One line of the first table, as text.

    `metrics` are those that any run of the summary has; `test` is None if the summary has no
    report split.
    """

    language: str
    run: str
    schedule: Schedule | Apart | None
    score: str
    against: str
    metrics: tuple[str, ...]
    test: str | None
    best: bool = False


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


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """Return the table's lines: each language's references, then its best."""
    lines = []
    for language, entry in summary["languages"].items():
        title = _title(language, entry)
        for name, run in [*entry["references"].items(), ("best", entry["best"])]:
            if run is None:
                nothing = ("-",) * len(_metrics(summary))
                last = "-" if _has_test(summary) else None
                lines.append(Row(title, name, None, "no finished trial", "-", nothing, last))
                continue
            heading = name
            if name == "best":
                heading += f" = {run['reference']}" if run["reference"] else f", #{run['trial']}"
            test = _interval(run["test"]) if "test" in run else "-"
            lines.append(
                Row(
                    language=title,
                    run=heading,
                    schedule=from_dict(run["schedule"]),
                    score="diverged" if run["status"] == "diverged" else _interval(run),
                    against=_against(entry, run["asr_bleu"], run["status"]),
                    metrics=_measured(summary, run.get("metrics", {})),
                    test=test if _has_test(summary) else None,
                    best=name == "best",
                )
            )
    return lines


def _title(language: str, entry: Mapping[str, Any]) -> str:
    return language if entry.get("pairs") is None else f"{language}, {entry['pairs']}"


def _has_test(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("report_split")) and summary["report_split"] != summary["split"]


def _against(entry: Mapping[str, Any], score: float, status: str) -> str:
    """Return the difference of a score to that of the paper's schedule."""
    baseline = entry["references"].get(BASELINE)
    if status != "complete" or baseline is None or baseline["status"] != "complete":
        return "-"
    return f"{score - baseline['asr_bleu']:+.1f}"


def _metrics(summary: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return the metrics that any run of the summary has."""
    entries = summary["languages"].values()
    runs = [run for e in entries for run in (*e["references"].values(), e["best"]) if run]
    return [metric for metric in METRICS if any(metric[0] in r.get("metrics", {}) for r in runs)]


def _measured(summary: Mapping[str, Any], found: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(
        f"{found[key]:.{digits}f}" if key in found else "-" for key, _, digits in _metrics(summary)
    )


def _interval(entry: Mapping[str, Any], score: str = "asr_bleu") -> str:
    low, high = entry["ci"]
    return f"{entry[score]:.1f} [{low:.1f}, {high:.1f}]"


def _titles(summary: Mapping[str, Any]) -> list[str]:
    titles = ["pairs", "run", "schedule", f"ASR-BLEU, {summary['split']}", f"vs {BASELINE}"]
    titles += [title for _, title, _ in _metrics(summary)]
    return titles + ([f"ASR-BLEU, {summary['report_split']}"] if _has_test(summary) else [])


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what has to be read with the numbers, wherever they stand."""
    honest = (
        f"the {summary['report_split']} score chose nothing."
        if _has_test(summary)
        else "confirm it on a split that chose nothing."
    )
    floors = (_floor(name, e, summary["split"]) for name, e in summary["languages"].items())
    verdicts = (
        f"{name}: the search's best is {entry['verdict']}."
        for name, entry in summary["languages"].items() if entry.get("verdict")
    )  # fmt: skip
    proofs = (
        f"{name}: the search's best is {entry['best']['certificate']['verdict']}."
        for name, entry in summary["languages"].items()
        if entry["best"] and "certificate" in entry["best"]
    )
    compared = OBJECTIVES[summary["objective"]]
    return [
        *verdicts,
        *proofs,
        *([] if summary["objective"] == "asr_bleu" else [f"Trials are compared by {compared}."]),
        *filter(None, floors),
        NOTE.format(split=summary["split"], honest=honest),
        f"{summary['trials']} trials in {summary['wall_s'] / 60:.1f} min; "
        f"overhead {summary['overhead_s_per_trial']:.2f} s a trial.",
    ]


def _floor(language: str, entry: Mapping[str, Any], split: str) -> str:
    """Say whether the best of a language tells nothing ("" if it does)."""
    best, none = entry["best"], entry["references"].get(FLOOR)
    ceiling = entry.get("ceilings", {}).get(split)
    reasons = []
    if best and none and best["ci"][0] <= none["ci"][1]:
        reasons.append("its interval meets that of no interleaving")
    if best and ceiling:
        resynthesis, audio = (ceiling[kind]["asr_bleu"] for kind in ("resynthesis", "audio"))
        if resynthesis < audio / 2:
            reasons.append(
                f"reference speech spoken again from its units scores {resynthesis:.1f}, under "
                f"half of the recordings' {audio:.1f}"
            )
    return f"{language}: the best lies at the floor: {'; '.join(reasons)}." if reasons else ""


def _ceiling(language: str, split: str, ceiling: Mapping[str, Any], signature: str | None) -> str:
    """Say what the same evaluation gives to reference speech: no system can score more."""
    scores = ", ".join(f"{kind} {_interval(ceiling[kind])}" for kind in ("resynthesis", "audio"))
    line = f"Ceiling of {language} on {split}, reference speech: {scores}."
    other = ceiling["resynthesis"]["signature"]
    if signature and signature != other:
        line += f" It was scored in another way, and does not compare: {other}"
    return line


def terminal(summary: Mapping[str, Any]) -> Table:
    """Return the first table for a rich console of 80 columns or more; metrics are left out."""
    table = Table(
        title=f"{summary['name']}: ASR-BLEU [95 % interval]",
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    table.add_column("\nrun", overflow="fold")
    # What is too long for 80 columns goes on in a second line: nothing is cut.
    table.add_column("\nschedule", overflow="fold")
    table.add_column(f"\n{summary['split']}", justify="right", no_wrap=True)
    table.add_column(f"vs\n{BASELINE}", justify="right", no_wrap=True)
    if _has_test(summary):
        table.add_column(f"\n{summary['report_split']}", justify="right", no_wrap=True)
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
    table.caption = Text("\n" + "\n".join(_notes(summary)))
    return table


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
    ceilings = [
        _ceiling(language, split, ceiling, entry.get("signature"))
        for language, entry in summary["languages"].items()
        for split, ceiling in entry.get("ceilings", {}).items()
    ]
    for note in [*_notes(summary), *ceilings]:
        lines += ["", note]
    lines += _confirmed(summary) + _neighbours(summary) + _front(summary)
    listed = [*titles[:1], "trial", *titles[1 : 5 + len(_metrics(summary))]]
    lines += ["", "## All trials", "", *_head(listed, 4)]
    done = [r for r in latest(results) if r.split == summary["split"]]
    for language, entry in summary["languages"].items():
        mine = [result for result in done if result.language == language]
        for one in sorted(mine, key=lambda r: (-r.value(summary["objective"]), r.trial)):
            score = {"asr_bleu": one.asr_bleu, "ci": one.ci}
            cells = [_title(language, entry), f"#{one.trial}", one.reference or ""]
            cells += [one.schedule.label()]
            cells += [_interval(score) if one.status == "complete" else one.status]
            cells += [_against(entry, one.asr_bleu, one.status)]
            lines.append(_cells([*cells, *_measured(summary, one.metrics)]))
    return "\n".join(lines) + "\n"


def _confirmed(summary: Mapping[str, Any]) -> list[str]:
    """Return the table of what was trained anew on fresh seeds; nothing if nothing was."""
    lines, objective = [], summary["objective"]
    for language, entry in summary["languages"].items():
        best, fresh = entry["best"], {}
        for name, run in [*entry["references"].items(), ("best", best)]:
            if run and "fresh" in run:
                fresh[name] = run["fresh"]
        for name, found in fresh.items():
            cells = [_title(language, entry), name, ", ".join(map(str, found["seeds"]))]
            cells.append(_interval(found, objective))
            against = best.get("difference", {}).get(name)
            cells.append(
                f"{_interval(against, objective)}, p = {against['p']:.3f}" if against else ""
            )
            lines.append(_cells(cells))
        if best and best.get("optimism") is not None:
            lines.append(_cells([_title(language, entry), "optimism", "", "",
                                 f"{best['optimism']:+.1f}"]))  # fmt: skip
    if not lines:
        return []
    split = summary["report_split"] or summary["split"]
    titles = ["pairs", "run", "seeds", f"{OBJECTIVES[objective]}, {split}", "best minus it"]
    return [
        "", "## On fresh seeds", "",
        "Means over seeds that chose nothing, with 95 % intervals over seeds and sentences; p by "
        f"Holm's method. Optimism: the {summary['split']} score that chose the best, minus its "
        f"mean over fresh seeds on {summary['split']}.",
        "", *_head(titles, 3), *lines,
    ]  # fmt: skip


def _neighbours(summary: Mapping[str, Any]) -> list[str]:
    """Return the table of what stands next to the best; nothing if it was not asked for."""
    objective, lines = summary["objective"], []
    for language, entry in summary["languages"].items():
        for one in (entry["best"] or {}).get("certificate", {}).get("neighbours", []):
            difference = f"{_interval(one, objective)}, p = {one['p']:.3f}"
            cells = [_title(language, entry), one["knob"], f"{one['value']:g}", difference]
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
        _cells([_title(language, entry), f"#{one['trial']}", f"{one[objective]:.1f}",
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
