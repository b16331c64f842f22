"""What a search answers for a language: the schedule to train with, and what speaks for it.

The highest of many noisy scores flatters itself, so the leading proposals and the references that
they are held against are trained anew, on seeds that chose nothing (`confirm`), and scored on the
split that chose nothing. Differences are means over these seeds, with the interval of a bootstrap
over seeds and sentences, and p-values by Holm's method over all comparisons of a language.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raystt.config import SearchConfig
from raystt.evaluation.jobs import read_statistics
from raystt.results import Proposal, Result, best
from raystt.scores import Statistics, bleu, holm
from raystt.searching.directory import RunDirectory

BASELINE = "paper"
"""The reference that is to be beaten."""

SIGNIFICANT = 0.05

Place = tuple[str, int, int, str]
"""Language, number of a trial, seed, split."""

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
        asr_bleu: The mean.
        ci: Its 95 % interval over seeds and sentences.
        seeds: The seeds.
    """

    asr_bleu: float
    ci: tuple[float, float]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """A confirmed schedule minus a reference, over the same seeds and sentences.

    Attributes:
        asr_bleu: Mean difference.
        ci: Its 95 % interval.
        p: Two-sided p-value, adjusted for all comparisons of the language.
    """

    asr_bleu: float
    ci: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Answer:
    """What a search answers for a language.

    Attributes:
        verdict: In words.
        chosen: The result of the trial to train with: the confirmed best, the baseline if nothing
            was shown to beat it, and the highest score where nothing was confirmed.
        leader: Number of the proposal that is best on fresh seeds; None without confirmation.
        fresh: Scores on fresh seeds, by trial.
        differences: Of the leader, to references by name.
        optimism: Score that chose the leader, minus the mean over fresh seeds on the same split.
    """

    verdict: str
    chosen: Result
    leader: int | None
    fresh: Mapping[int, Fresh]
    differences: Mapping[str, Difference]
    optimism: float | None


def to_confirm(search: SearchConfig, results: Iterable[Result]) -> list[Result]:
    """Return the trials of a language that are trained anew: leading ones and references.

    Nothing is, where nothing was proposed.

    Args:
        search: The search.
        results: Results of the language, on the split that trials are compared on.
    """
    complete = [r for r in results if r.status == "complete"]
    proposals = [r for r in complete if r.reference is None]
    leading = sorted(proposals, key=lambda r: (-r.asr_bleu, r.trial))[: search.confirm.top]
    references = [r for r in complete if r.reference in search.references]
    held = {r.trial: r for r in references if r.reference == BASELINE}
    strongest = best(references)
    if strongest is not None:
        held[strongest.trial] = strongest
    return [*leading, *held.values()] if leading else []


def fresh_seeds(search: SearchConfig) -> range:
    """Return the seeds that confirm; trials train on `search.seed`."""
    return range(search.seed + 1, search.seed + 1 + search.confirm.seeds)


def folder_of(proposal: Proposal, seed: int) -> str:
    """Return the name under `trials/` of a trial that is trained anew."""
    return f"{proposal.folder}-seed{seed}"


def confirmed(search: SearchConfig, directory: RunDirectory) -> dict[Place, Result]:
    """Return the evaluations on fresh seeds; of those with a score the hypotheses are there too."""
    return {
        (r.language, r.trial, r.seed, r.split): r
        for r in directory.read_confirmation()
        if r.seed in fresh_seeds(search)
        and (r.status == "diverged" or _hypotheses(directory, r, r.seed, r.split).exists())
    }


def missing(
    search: SearchConfig, directory: RunDirectory, results: Iterable[Result]
) -> list[tuple[Result, int, list[Any]]]:
    """Return what is not confirmed yet: trials, seeds, and the splits that lack a score.

    Args:
        search: The search.
        directory: Its directory.
        results: Results of its trials on the split that they are compared on.
    """
    config, known, results = search.base.evaluation, confirmed(search, directory), list(results)
    splits = tuple(dict.fromkeys((config.split, config.report_split)))
    return [
        (trial, seed, lacking)
        for name in search.languages
        for trial in to_confirm(search, [r for r in results if r.language == name])
        for seed in fresh_seeds(search)
        if (lacking := [s for s in splits if (name, trial.trial, seed, s) not in known])
    ]


def _hypotheses(directory: RunDirectory, proposal: Proposal, seed: int, split: str) -> Path:
    return directory.trials / folder_of(proposal, seed) / f"hypotheses-{split}.jsonl"


def answers(search: SearchConfig, directory: RunDirectory) -> dict[str, Answer]:
    """Return what a search answers, by language; languages without a score are left out."""
    config = search.base.evaluation
    results = [r for r in directory.read() if r.split == config.split]
    found = {}
    for language in search.languages:
        mine = [r for r in results if r.language == language]
        winner = best(mine)
        if winner is not None:
            fresh = _Fresh(search, directory, language)
            found[language] = _answer(search, fresh, mine, winner)
    return found


class _Fresh:
    """What was measured on fresh seeds in one language."""

    def __init__(self, search: SearchConfig, directory: RunDirectory, language: str) -> None:
        self.config, self._directory = search.base.evaluation, directory
        self.seeds = tuple(fresh_seeds(search))
        self._results = {
            (trial, seed, split): result
            for (name, trial, seed, split), result in confirmed(search, directory).items()
            if name == language
        }

    def whole(self, result: Result, split: str) -> bool:
        """Say whether a trial has a score on every fresh seed."""
        places = [(result.trial, seed, split) for seed in self.seeds]
        return all(p in self._results and self._results[p].status == "complete" for p in places)

    def mean(self, result: Result, split: str) -> float:
        """Return the mean score of a trial."""
        return float(np.mean([self._results[result.trial, s, split].asr_bleu for s in self.seeds]))

    def runs(self, result: Result) -> list[Statistics]:
        """Return the statistics of each fresh seed on the split that chose nothing."""
        split = self.config.report_split
        return [
            read_statistics(_hypotheses(self._directory, result, seed, split))
            for seed in self.seeds
        ]


def _answer(
    search: SearchConfig, measured: _Fresh, results: Sequence[Result], winner: Result
) -> Answer:
    config = measured.config
    tried = [r for r in to_confirm(search, results) if measured.whole(r, config.report_split)]
    proposals = [r for r in tried if r.reference is None]
    references = {str(r.reference): r for r in tried if r.reference is not None}
    runs = {r.trial: measured.runs(r) for r in tried}
    fresh = {
        trial: Fresh(*bleu().mean_of_runs(stats, resamples=config.resamples), measured.seeds)
        for trial, stats in runs.items()
    }
    if not proposals or not references:
        verdict = "not confirmed on fresh seeds: the highest of noisy scores flatters itself"
        return Answer(verdict, winner, None, fresh, {}, None)
    pairs = [(p.trial, name) for p in proposals for name in references]
    compared = [
        bleu().compare_runs(runs[t], runs[references[name].trial], resamples=config.resamples)
        for t, name in pairs
    ]
    adjusted = holm([p for *_, p in compared])
    differences = {
        pair: Difference(points, ci, p)
        for pair, (points, ci, _), p in zip(pairs, compared, adjusted, strict=True)
    }
    leader = max(proposals, key=lambda r: (fresh[r.trial].asr_bleu, -r.trial))
    baseline = BASELINE if BASELINE in references else next(iter(references))
    against = differences[leader.trial, baseline]
    better = against.p < SIGNIFICANT and against.asr_bleu > 0
    optimism = None
    if measured.whole(leader, config.split):
        optimism = leader.asr_bleu - measured.mean(leader, config.split)
    return Answer(
        verdict=_words(against, NAMES.get(baseline, baseline)),
        chosen=leader if better else references[baseline],
        leader=leader.trial,
        fresh=fresh,
        differences={name: differences[leader.trial, name] for name in references},
        optimism=optimism,
    )


def _words(difference: Difference, name: str) -> str:
    points, (low, high) = difference.asr_bleu, difference.ci
    if difference.p >= SIGNIFICANT:
        return f"not shown to be better than {name}; {points:.1f} [{low:.1f}, {high:.1f}]"
    if points > 0:
        return f"better than {name} by {points:.1f} [{low:.1f}, {high:.1f}]"
    return f"worse than {name} by {-points:.1f} [{-high:.1f}, {-low:.1f}]"
