"""What was trained anew on fresh seeds, and how schedules compare over them.

Seeds that confirm chose nothing, and so did the split that they are scored on (`report_split`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raystt.config import SearchConfig
from raystt.evaluation.jobs import hypotheses_of, read_statistics
from raystt.results import Proposal, Result
from raystt.scores import Statistics, bleu, chrf, holm
from raystt.searching.directory import RunDirectory

SIGNIFICANT = 0.05

_Place = tuple[str, int, str, int, str]


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
    """One schedule minus another, over the same seeds and sentences.

    Attributes:
        score: Mean difference.
        ci: Its 95 % interval.
        p: Two-sided p-value, adjusted for all that was compared at once.
    """

    score: float
    ci: tuple[float, float]
    p: float


def fresh_seeds(search: SearchConfig) -> range:
    """Return the seeds that confirm; trials train on `search.seed`."""
    return range(search.seed + 1, search.seed + 1 + search.confirm.seeds)


class Confirmation:
    """What lies in a search's directory of fresh seeds.

    Args:
        search: The search.
        directory: Its directory.
    """

    def __init__(self, search: SearchConfig, directory: RunDirectory) -> None:
        self._search, self._trials = search, directory.trials
        self._seeds = tuple(fresh_seeds(search))
        # A BLEU is summed up alike whether case counted or not.
        self._metric = chrf() if search.objective == "chrf" else bleu()
        self._known = {
            _place(r, r.split): r
            for r in directory.read_confirmation()
            if r.seed in self._seeds
            and (r.status == "diverged" or hypotheses_of(self._trials / r.folder, r.split).exists())
        }
        self._read: dict[_Place, Statistics] = {}

    def lacking(self, one: Proposal, splits: Sequence[str]) -> list[tuple[Proposal, list[str]]]:
        """Return the trainings of a trial that have no score yet, and on which of the splits."""
        found = []
        for again in map(one.anew, self._seeds):
            missing = [split for split in splits if _place(again, split) not in self._known]
            if missing:
                found.append((again, missing))
        return found

    def results(self, one: Proposal, split: str) -> list[Result]:
        """Return what a trial gave on each fresh seed; nothing unless it has a score on all."""
        places = [_place(again, split) for again in map(one.anew, self._seeds)]
        found = [self._known[place] for place in places if place in self._known]
        whole = len(found) == len(places) and all(r.status == "complete" for r in found)
        return found if whole else []

    def mean(self, one: Proposal) -> Fresh:
        """Return the mean of a trial that has a score on all seeds."""
        resamples = self._search.base.evaluation.resamples
        found = self._metric.mean_of_runs(self._statistics(one), resamples=resamples)
        return Fresh(*found, self._seeds)

    def compare(self, pairs: Sequence[tuple[Proposal, Proposal]]) -> list[Difference]:
        """Return the first minus the second of each pair; p by Holm's method over all of them."""
        resamples = self._search.base.evaluation.resamples
        compared = [
            self._metric.compare_runs(
                self._statistics(one), self._statistics(other), resamples=resamples
            )
            for one, other in pairs
        ]
        adjusted = holm([p for *_, p in compared])
        return [
            Difference(points, ci, p) for (points, ci, _), p in zip(compared, adjusted, strict=True)
        ]

    def _statistics(self, one: Proposal) -> list[Statistics]:
        """Return the statistics of a trial on the report split, of each seed."""
        found = []
        for result in self.results(one, self._search.base.evaluation.report_split):
            place = _place(result, result.split)
            if place not in self._read:
                path = hypotheses_of(self._trials / result.folder, result.split)
                self._read[place] = read_statistics(path, self._search.objective)
            found.append(self._read[place])
        return found


def _place(one: Proposal, split: str) -> _Place:
    return one.language, one.trial, one.knob, one.seed, split
