"""The tables of a search: each language's references and best schedule, then all its trials.

On a terminal the first, short enough for 80 columns; in `report/table.md` both, and what has to be
read with the numbers: signature, ceilings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from raystt.config import BASELINE, OBJECTIVES
from raystt.schedule import Apart, Constant, Knots, Schedule, from_dict

NOTE = (
    "[lo, hi]: 95 % bootstrap interval. The best was chosen by its {split} scores, which flatter "
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
        title = language_title(language, entry)
        for name, run in [*entry["references"].items(), ("best", entry["best"])]:
            if run is None:
                nothing = ("-",) * len(metrics(summary))
                last = "-" if has_test(summary) else None
                lines.append(Row(title, name, None, "no finished trial", "-", nothing, last))
                continue
            heading = best_name(run) if name == "best" else name
            test = interval(run["test"]) if "test" in run else "-"
            lines.append(
                Row(
                    language=title,
                    run=heading,
                    schedule=from_dict(run["schedule"]),
                    score="diverged" if run["status"] == "diverged" else interval(run),
                    against=against(entry, run["asr_bleu"], run["status"]),
                    metrics=measured(summary, run.get("metrics", {})),
                    test=test if has_test(summary) else None,
                    best=name == "best",
                )
            )
    return lines


@dataclass(frozen=True)
class Answered:
    """One line of the page's table, as text: a run, and what fresh seeds say of it."""

    run: str
    schedule: str
    score: str
    fresh: str
    difference: str
    p: str
    best: bool


def answer_rows(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Answered]:
    """Return the lines of a language: its fixed runs, then its best."""
    objective, best = summary["objective"], entry["best"]
    lines = []
    for name, run in [*entry["references"].items(), ("", best)]:
        if run is None or (name and best and best.get("reference") == name):
            continue
        fresh, held = run.get("fresh"), (best or {}).get("difference", {}).get(name)
        seeds = f" ({len(fresh['seeds'])} seeds)" if fresh else ""
        lines.append(Answered(
            run=name or best_name(run),
            schedule=from_dict(run["schedule"]).label(),
            score="diverged" if run["status"] == "diverged" else _one_seed(run, objective),
            fresh=interval(fresh, objective) + seeds if fresh else "",
            difference=interval(held, objective) if held else "",
            p=f"{held['p']:.3f}" if held else "",
            best=not name,
        ))  # fmt: skip
    return lines + _ceiling_rows(summary, entry)


def _ceiling_rows(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Answered]:
    """Return what reference speech scores: its units spoken again, and the recordings."""
    found = entry.get("ceilings", {})
    return [
        Answered(
            run=title, schedule="", best=False, difference="", p="",
            score=interval(found[summary["split"]][kind]),
            fresh=interval(found[report][kind]) if (report := summary["report_split"]) in found
            else "",
        )
        for kind, title in (("resynthesis", "reference units"), ("audio", "reference recordings"))
        if summary["split"] in found and summary["objective"] == "asr_bleu"
    ]  # fmt: skip


def _one_seed(run: Mapping[str, Any], objective: str) -> str:
    """Return the score that trials are compared by; only ASR-BLEU has an interval."""
    if objective == "asr_bleu":
        return interval(run)
    return f"{run['metrics'][objective]:.1f}"


def best_name(run: Mapping[str, Any]) -> str:
    """Return what a table calls the best: `best, #3`, or `best = paper`."""
    return f"best = {run['reference']}" if run["reference"] else f"best, #{run['trial']}"


def language_title(language: str, entry: Mapping[str, Any]) -> str:
    return language if entry.get("pairs") is None else f"{language}, {entry['pairs']}"


def has_test(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("report_split")) and summary["report_split"] != summary["split"]


def against(entry: Mapping[str, Any], score: float, status: str) -> str:
    """Return the difference of a score to that of the paper's schedule."""
    baseline = entry["references"].get(BASELINE)
    if status != "complete" or baseline is None or baseline["status"] != "complete":
        return "-"
    return f"{score - baseline['asr_bleu']:+.1f}"


def metrics(summary: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return the metrics that any run of the summary has."""
    entries = summary["languages"].values()
    runs = [run for e in entries for run in (*e["references"].values(), e["best"]) if run]
    return [metric for metric in METRICS if any(metric[0] in r.get("metrics", {}) for r in runs)]


def measured(summary: Mapping[str, Any], found: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(
        f"{found[key]:.{digits}f}" if key in found else "-" for key, _, digits in metrics(summary)
    )


def interval(entry: Mapping[str, Any], score: str = "asr_bleu") -> str:
    low, high = entry["ci"]
    return f"{entry[score]:.1f} [{low:.1f}, {high:.1f}]"


def verdicts(summary: Mapping[str, Any]) -> list[str]:
    """Return what the search answers, a sentence a language."""
    return [
        f"{name}: the search's best is {entry['verdict']}."
        for name, entry in summary["languages"].items() if entry.get("verdict")
    ]  # fmt: skip


def ceiling_notes(summary: Mapping[str, Any]) -> list[str]:
    """Say what the same evaluation gives to reference speech: no system can score more."""
    found = []
    for language, entry in summary["languages"].items():
        for split, ceiling in entry.get("ceilings", {}).items():
            scores = ", ".join(
                f"{kind} {interval(ceiling[kind])}" for kind in ("resynthesis", "audio")
            )
            line = f"Ceiling of {language} on {split}, reference speech: {scores}."
            other = ceiling["resynthesis"]["signature"]
            if entry.get("signature") not in (None, "", other):
                line += f" It was scored in another way, and does not compare: {other}"
            found.append(line)
    return found


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what else has to be read with the numbers, wherever they stand."""
    honest = (
        f"the {summary['report_split']} score chose nothing."
        if has_test(summary)
        else "confirm it on a split that chose nothing."
    )
    floors = (_floor(name, e, summary["split"]) for name, e in summary["languages"].items())
    proofs = (
        f"{name}: the search's best is {entry['best']['certificate']['verdict']}."
        for name, entry in summary["languages"].items()
        if entry["best"] and "certificate" in entry["best"]
    )
    compared = OBJECTIVES[summary["objective"]]
    return [
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
    if has_test(summary):
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
    table.caption = Text("\n" + "\n".join([*verdicts(summary), *notes(summary)]))
    return table
