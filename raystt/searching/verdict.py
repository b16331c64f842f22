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
from raystt.evaluation.jobs import read_statistics
from raystt.ranking import ranked
from raystt.results import Proposal, Result
from raystt.scores import Metric, Statistics, bleu, chrf, holm
from raystt.searching.directory import RunDirectory

SIGNIFICANT = 0.05

Place = tuple[str, int, str, int, str]
"""Language, number of a trial, knob of its neighbour, seed, split."""

NAMES = {
    "none": "no interleaving",
    "paper": "the paper's staircase",
    "constant": "a constant ratio",
    "thirds": "LST's thirds",
}
"""What a sentence calls a reference."""


@dataclass(frozen=True)
class Fresh:
    """The mean score of a schedule over fresh seeds, on the split that chose nothing.

    Attributes:
        score: The mean.
        ci: Its 95 % interval over seeds and sentences.
        seeds: The seeds.
    """

    score: float
    ci: tuple[float, float]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """A confirmed schedule minus a reference, over the same seeds and sentences.

    Attributes:
        score: Mean difference.
        ci: Its 95 % interval.
        p: Two-sided p-value, adjusted for all comparisons of the language.
    """

    score: float
    ci: tuple[float, float]
    p: float


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


def fresh_seeds(search: SearchConfig) -> range:
    """Return the seeds that confirm; trials train on `search.seed`."""
    return range(search.seed + 1, search.seed + 1 + search.confirm.seeds)


def confirmed(search: SearchConfig, directory: RunDirectory) -> dict[Place, Result]:
    """Return the evaluations on fresh seeds; of those with a score the hypotheses are there too."""
    return {
        (r.language, r.trial, r.knob, r.seed, r.split): r
        for r in directory.read_confirmation()
        if r.seed in fresh_seeds(search)
        and (r.status == "diverged" or (directory.trials / r.hypotheses(r.split)).exists())
    }


def missing(
    search: SearchConfig, directory: RunDirectory, results: Iterable[Result]
) -> list[tuple[Proposal, list[str]]]:
    """Return what is to be trained anew, and on which splits it lacks a score.

    Args:
        search: The search.
        directory: Its directory.
        results: Results of its trials on the split that they are compared on.
    """
    config, known, results = search.base.evaluation, confirmed(search, directory), list(results)
    splits: list[str] = list(dict.fromkeys((config.split, config.report_split)))
    return [
        (trial.anew(seed), lacking)
        for name in search.languages
        for trial in to_confirm(search, [r for r in results if r.language == name])
        for seed in fresh_seeds(search)
        if (lacking := [s for s in splits if (name, trial.trial, "", seed, s) not in known])
    ]


def answers(search: SearchConfig, directory: RunDirectory) -> dict[str, Answer]:
    """Return what a search answers, by language; languages without a score are left out."""
    results = [r for r in directory.read() if r.split == search.base.evaluation.split]
    known, found = confirmed(search, directory), {}
    for language in search.languages:
        mine = [r for r in results if r.language == language]
        for winner in ranked(mine, search.objective)[:1]:
            found[language] = _answer(search, directory, known, mine, winner)
    return found


def _answer(
    search: SearchConfig, directory: RunDirectory, known: Mapping[Place, Result],
    results: Sequence[Result], winner: Result,
) -> Answer:  # fmt: skip
    config, seeds = search.base.evaluation, tuple(fresh_seeds(search))
    metric = metric_of(search.objective)

    def on_seeds(result: Result, split: str) -> list[Result]:
        """Return what a trial gave on each fresh seed; nothing unless it has a score on all."""
        places = [(result.language, result.trial, "", seed, split) for seed in seeds]
        found = [known[place] for place in places if place in known]
        whole = len(found) == len(seeds) and all(r.status == "complete" for r in found)
        return found if whole else []

    runs: dict[int, list[Statistics]] = {}
    tried = [r for r in to_confirm(search, results) if on_seeds(r, config.report_split)]
    for one in tried:
        runs[one.trial] = [
            read_statistics(directory.trials / r.hypotheses(r.split), search.objective)
            for r in on_seeds(one, config.report_split)
        ]
    fresh = {
        trial: Fresh(*metric.mean_of_runs(stats, resamples=config.resamples), seeds)
        for trial, stats in runs.items()
    }
    candidates = [r for r in tried if r.reference not in search.references]
    references = {str(r.reference): r for r in tried if r.reference in search.references}
    if not candidates or not references:
        verdict = "not confirmed on fresh seeds: the highest of noisy scores flatters itself"
        return Answer(verdict, winner, None, fresh, {}, None)
    pairs = [(p.trial, name) for p in candidates for name in references]
    compared = [
        metric.compare_runs(runs[t], runs[references[name].trial], resamples=config.resamples)
        for t, name in pairs
    ]
    adjusted = holm([p for *_, p in compared])
    differences = {
        pair: Difference(points, ci, p)
        for pair, (points, ci, _), p in zip(pairs, compared, adjusted, strict=True)
    }
    leader = max(candidates, key=lambda r: (fresh[r.trial].score, -r.trial))
    baseline = BASELINE if BASELINE in references else next(iter(references))
    against = differences[leader.trial, baseline]
    better = against.p < SIGNIFICANT and against.score > 0
    compared_on = [r.value(search.objective) for r in on_seeds(leader, config.split)]
    return Answer(
        verdict=_words(against, NAMES.get(baseline, baseline), search.objective),
        chosen=leader if better else references[baseline],
        best=leader,
        fresh=fresh,
        differences={name: differences[leader.trial, name] for name in references},
        optimism=leader.value(search.objective) - fmean(compared_on) if compared_on else None,
    )


def metric_of(objective: Objective) -> Metric:
    """Return what sums up the statistics of an objective."""
    # A BLEU is summed up alike whether case counted or not.
    return chrf() if objective == "chrf" else bleu()


def _words(difference: Difference, name: str, objective: Objective) -> str:
    points, (low, high) = difference.score, difference.ci
    unit = "" if objective == "asr_bleu" else f" {OBJECTIVES[objective]}"
    if difference.p >= SIGNIFICANT:
        return f"not shown to be better than {name}; {points:.1f} [{low:.1f}, {high:.1f}]{unit}"
    if points > 0:
        return f"better than {name} by {points:.1f} [{low:.1f}, {high:.1f}]{unit}"
    return f"worse than {name} by {-points:.1f} [{-high:.1f}, {-low:.1f}]{unit}"
