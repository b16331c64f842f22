"""The rows of a search's tables, as text: each language's references, then its best.

`terminal` and `markdown` lay out `rows`, the page `answer_rows`. Beside them stands what has to be
read with the numbers: verdicts, ceilings, floors, neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

from raystt.config import BASELINE, OBJECTIVES
from raystt.results import Result
from raystt.schedule import Apart, Schedule
from raystt.scores import Score
from raystt.searching.summary import LanguageSummary, Summary

NOTE = (
    "[lo, hi]: 95 % bootstrap interval. The best was chosen by its {split} scores, which flatter "
    "it; {honest}"
)

# What may stand beside ASR-BLEU, on the split that trials are compared on: key, title, digits.
METRICS = (("chrf", "chrF", 1), ("text_bleu", "text BLEU", 1), ("utmos", "UTMOS", 2))

FLOOR = "none"
"""The reference that shows what nothing gives."""


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


def rows(summary: Summary) -> list[Row]:
    """Return the table's lines: each language's references, then its best."""
    lines = []
    for language in summary.languages:
        title = language_title(language)
        for name, line in [*language.references.items(), ("best", language.best)]:
            if line is None:
                nothing = ("-",) * len(metrics(summary))
                last = "-" if summary.has_test else None
                lines.append(Row(title, name, None, "no finished trial", "-", nothing, last))
                continue
            test = speech(line.test) if line.test else "-"
            lines.append(Row(
                language=title,
                run=best_name(line.result) if name == "best" else name,
                schedule=line.result.schedule,
                score=scored(line.result),
                against=against(language, line.result),
                metrics=measured(summary, line.result),
                test=test if summary.has_test else None,
                best=name == "best",
            ))  # fmt: skip
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


def answer_rows(summary: Summary, language: LanguageSummary) -> list[Answered]:
    """Return the lines of a language: its fixed runs, then its best."""
    best, lines = language.best, []
    for name, line in [*language.references.items(), ("", best)]:
        if line is None or (name and best and best.result.reference == name):
            continue
        fresh, held = line.fresh, language.differences.get(name)
        seeds = f" ({len(fresh.seeds)} seeds)" if fresh else ""
        lines.append(Answered(
            run=name or best_name(line.result),
            schedule=line.result.schedule.label(),
            score=_one_seed(line.result, summary),
            fresh=interval(fresh.score, fresh.ci) + seeds if fresh else "",
            difference=interval(held.score, held.ci) if held else "",
            p=f"{held.p:.3f}" if held else "",
            best=not name,
        ))  # fmt: skip
    return lines + _ceiling_rows(summary, language)


def _ceiling_rows(summary: Summary, language: LanguageSummary) -> list[Answered]:
    """Return what reference speech scores: its units spoken again, and the recordings."""
    here = language.ceilings.get(summary.split)
    if here is None or summary.objective != "asr_bleu":
        return []
    there = language.ceilings.get(summary.report_split or "")
    return [
        Answered(
            run=title, schedule="", best=False, difference="", p="",
            score=speech(score), fresh=speech(other) if other else "",
        )
        for title, score, other in (
            ("reference units", here.resynthesis, there and there.resynthesis),
            ("reference recordings", here.audio, there and there.audio),
        )
    ]  # fmt: skip


def _one_seed(result: Result, summary: Summary) -> str:
    """Return the score that trials are compared by, of which ASR-BLEU alone has an interval."""
    if summary.objective == "asr_bleu" or result.status == "diverged":
        return scored(result)
    return f"{result.value(summary.objective):.1f}"


def best_name(result: Result) -> str:
    """Return what a table calls the best: `best, #3`, or `best = paper`."""
    return f"best = {result.reference}" if result.reference else f"best, #{result.trial}"


def language_title(language: LanguageSummary) -> str:
    """Return a language and its training pairs."""
    return language.language if language.pairs is None else f"{language.language}, {language.pairs}"


def against(language: LanguageSummary, result: Result) -> str:
    """Return the difference of a score to that of the paper's schedule."""
    baseline = language.references.get(BASELINE)
    if baseline is None or "diverged" in (result.status, baseline.result.status):
        return "-"
    return f"{result.asr_bleu - baseline.result.asr_bleu:+.1f}"


def metrics(summary: Summary) -> list[tuple[str, str, int]]:
    """Return the metrics that any run of the first table has."""
    lines = (line for language in summary.languages for line in language.lines)
    found = {name for line in lines for name in line.result.metrics}
    return [metric for metric in METRICS if metric[0] in found]


def measured(summary: Summary, result: Result) -> tuple[str, ...]:
    """Return these metrics of a trial."""
    found = result.metrics
    return tuple(
        f"{found[key]:.{digits}f}" if key in found else "-" for key, _, digits in metrics(summary)
    )


def scored(result: Result) -> str:
    """Return the ASR-BLEU of a trial, or that it diverged."""
    return "diverged" if result.status == "diverged" else speech(result)


def speech(score: Result | Score) -> str:
    """Return an ASR-BLEU with its interval."""
    return interval(score.asr_bleu, score.ci)


def interval(score: float, ci: tuple[float, float]) -> str:
    """Return a score with its interval."""
    return f"{score:.1f} [{ci[0]:.1f}, {ci[1]:.1f}]"


def verdicts(summary: Summary) -> list[str]:
    """Return what the search answers, a sentence a language."""
    return [
        f"{one.language}: the search's best is {one.answer.verdict}."
        for one in summary.languages if one.answer
    ]  # fmt: skip


def ceiling_notes(summary: Summary) -> list[str]:
    """Say what the same evaluation gives to reference speech: no system can score more."""
    found = []
    for one in summary.languages:
        for split, ceiling in one.ceilings.items():
            resynthesis, audio = speech(ceiling.resynthesis), speech(ceiling.audio)
            line = (
                f"Ceiling of {one.language} on {split}, reference speech: "
                f"resynthesis {resynthesis}, audio {audio}."
            )
            other = ceiling.resynthesis.signature
            if one.signature not in ("", other):
                line += f" It was scored in another way, and does not compare: {other}"
            found.append(line)
    return found


def notes(summary: Summary) -> list[str]:
    """Return what else has to be read with the numbers, wherever they stand."""
    honest = (
        f"the {summary.report_split} score chose nothing."
        if summary.has_test
        else "confirm it on a split that chose nothing."
    )
    proofs = (
        f"{one.language}: the search's best is {one.certificate.verdict}."
        for one in summary.languages if one.certificate
    )  # fmt: skip
    compared = OBJECTIVES[summary.objective]
    return [
        *proofs,
        *([] if summary.objective == "asr_bleu" else [f"Trials are compared by {compared}."]),
        *filter(None, (_floor(one, summary.split) for one in summary.languages)),
        NOTE.format(split=summary.split, honest=honest),
        f"{summary.trials} trials in {summary.wall_s / 60:.1f} min; "
        f"overhead {summary.overhead_s_per_trial:.2f} s a trial.",
    ]


def _floor(language: LanguageSummary, split: str) -> str:
    """Say whether the best of a language tells nothing ("" if it does)."""
    best, none = language.best, language.references.get(FLOOR)
    ceiling = language.ceilings.get(split)
    reasons = []
    if best and none and best.result.asr_bleu_low <= none.result.asr_bleu_high:
        reasons.append("its interval meets that of no interleaving")
    if best and ceiling:
        resynthesis, audio = ceiling.resynthesis.asr_bleu, ceiling.audio.asr_bleu
        if resynthesis < audio / 2:
            reasons.append(
                f"reference speech spoken again from its units scores {resynthesis:.1f}, under "
                f"half of the recordings' {audio:.1f}"
            )
    why = "; ".join(reasons)
    return f"{language.language}: the best lies at the floor: {why}." if reasons else ""
