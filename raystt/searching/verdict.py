"""What a search answers for a language: the schedule to train with, and what speaks for it.

The highest of many noisy scores flatters itself, so what leads and the references that it is held
against are trained anew, on seeds that chose nothing (`confirm`), and scored on the split that
chose nothing. Differences are means over these seeds, with the interval of a bootstrap
over seeds and sentences, and p-values by Holm's method over all comparisons of a language.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from raystt.config import BASELINE, OBJECTIVES, Objective, SearchConfig
from raystt.ranking import best, ranked
from raystt.results import Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import SIGNIFICANT, Confirmation, Difference, Fresh

NAMES = {
    "none": "no interleaving",
    "paper": "the paper's staircase",
    "constant": "a constant ratio",
    "thirds": "LST's thirds",
}
"""What a sentence calls a reference."""


@dataclass(frozen=True)
class Answer:
    """What a search answers for a language.

    Attributes:
        verdict: In words.
        chosen: The result of the trial to train with: the confirmed best, the baseline if nothing
            was shown to beat it, and the highest score where nothing was confirmed.
        best: The trial that is best on fresh seeds, references aside; None without confirmation.
        fresh: Scores on fresh seeds, by trial.
        differences: Of the best, to references by name.
        optimism: Score that chose the best, minus the mean over fresh seeds on the same split.
    """

    verdict: str
    chosen: Result
    best: Result | None
    fresh: Mapping[int, Fresh]
    differences: Mapping[str, Difference]
    optimism: float | None


def to_confirm(search: SearchConfig, results: Iterable[Result]) -> list[Result]:
    """Return the trials of a language that are trained anew: leading ones and references.

    An ablation may lead as a proposal does. Nothing is trained anew where nothing was proposed.

    Args:
        search: The search.
        results: Results of the language, on the split that trials are compared on.
    """
    complete = ranked(results, search.objective)
    if all(r.reference is not None for r in complete):
        return []
    leading = [r for r in complete if r.reference not in search.references][: search.confirm.top]
    references = [r for r in complete if r.reference in search.references]
    held = {r.trial: r for r in references if r.reference == BASELINE}
    held |= {r.trial: r for r in references[:1]}
    return [*leading, *held.values()] if leading else []


def missing(
    search: SearchConfig, directory: RunDirectory, results: Iterable[Result]
) -> list[tuple[Proposal, list[str]]]:
    """Return what is to be trained anew, and on which splits it lacks a score.

    Args:
        search: The search.
        directory: Its directory.
        results: Results of its trials on the split that they are compared on.
    """
    config, results = search.base.evaluation, list(results)
    known = Confirmation(search, directory)
    splits = list(dict.fromkeys((config.split, config.report_split)))
    return [
        lacking
        for name in search.languages
        for trial in to_confirm(search, [r for r in results if r.language == name])
        for lacking in known.lacking(trial, splits)
    ]


def answers(search: SearchConfig, directory: RunDirectory) -> dict[str, Answer]:
    """Return what a search answers, by language; languages without a score are left out."""
    results = [r for r in directory.read() if r.split == search.base.evaluation.split]
    known, found = Confirmation(search, directory), {}
    for language in search.languages:
        mine = [r for r in results if r.language == language]
        winner = best(mine, search.objective)
        if winner is not None:
            found[language] = _answer(search, known, mine, winner)
    return found


def _answer(
    search: SearchConfig, known: Confirmation, results: Sequence[Result], winner: Result
) -> Answer:
    config = search.base.evaluation
    # Not those alone that lead now: what led before a search grew has its fresh seeds still.
    complete = ranked(results, search.objective)
    tried = [r for r in complete if known.results(r, config.report_split)]
    fresh = {one.trial: known.mean(one) for one in tried}
    candidates = [r for r in tried if r.reference not in search.references]
    references = {str(r.reference): r for r in tried if r.reference in search.references}
    if not candidates or not references:
        verdict = "not confirmed on fresh seeds: the highest of noisy scores flatters itself"
        return Answer(verdict, winner, None, fresh, {}, None)
    pairs = [(one, name) for one in candidates for name in references]
    compared = known.compare([(one, references[name]) for one, name in pairs])
    leader = max(candidates, key=lambda r: (fresh[r.trial].score, -r.trial))
    differences = {
        name: difference
        for (one, name), difference in zip(pairs, compared, strict=True) if one is leader
    }  # fmt: skip
    baseline = BASELINE if BASELINE in references else next(iter(references))
    against = differences[baseline]
    better = against.p < SIGNIFICANT and against.score > 0
    on_split = [r.value(search.objective) for r in known.results(leader, config.split)]
    return Answer(
        verdict=_words(against, NAMES.get(baseline, baseline), search.objective),
        chosen=leader if better else references[baseline],
        best=leader,
        fresh=fresh,
        differences=differences,
        optimism=leader.value(search.objective) - fmean(on_split) if on_split else None,
    )


def _words(difference: Difference, name: str, objective: Objective) -> str:
    points, (low, high) = difference.score, difference.ci
    unit = "" if objective == "asr_bleu" else f" {OBJECTIVES[objective]}"
    if difference.p >= SIGNIFICANT:
        return f"not shown to be better than {name}; {points:.1f} [{low:.1f}, {high:.1f}]{unit}"
    if points > 0:
        return f"better than {name} by {points:.1f} [{low:.1f}, {high:.1f}]{unit}"
    return f"worse than {name} by {-points:.1f} [{-high:.1f}, {-low:.1f}]{unit}"
