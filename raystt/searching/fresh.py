"""What was trained anew on fresh seeds, and how schedules compare over them.

Seeds that confirm did not choose what is trained on them. Which of several is the best is chosen by
their scores on the split that trials are compared on; what is told of it is of `report_split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from raystt.config import SearchConfig
from raystt.config.entry import Value
from raystt.evaluation.jobs import hypotheses_of, read_statistics
from raystt.results import Proposal, Result
from raystt.scores import Statistics, bleu, chrf, holm
from raystt.searching.directory import RunDirectory

SIGNIFICANT = 0.05

_Place = tuple[str, int, str, Value | None, int, str]


@dataclass(frozen=True)
class Fresh:
    """The mean score of a schedule over fresh seeds; one that diverged counts as 0.

    Attributes:
        score: The mean on the split that chose nothing.
        ci: Its 95 % interval over seeds and sentences.
        seeds: The seeds.
        on_split: The mean on the split that trials are compared on.
        diverged: On how many seeds it diverged.
    """

    score: float
    ci: tuple[float, float]
    seeds: tuple[int, ...]
    on_split: float
    diverged: int


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

    @property
    def better(self) -> bool:
        """Whether the first is shown to be better."""
        return self.score > 0 and self.p < SIGNIFICANT

    @property
    def worse(self) -> bool:
        """Whether the first is shown to be worse."""
        return self.score < 0 and self.p < SIGNIFICANT


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
        known = [
            r for r in directory.read_confirmation()
            if r.seed in self._seeds
            and (r.status == "diverged" or hypotheses_of(self._trials / r.folder, r.split).exists())
        ]  # fmt: skip
        self._known = {_place(r, r.split): r for r in known}
        self._heard = {(r.language, r.split): r for r in known if r.status == "complete"}
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
        """Return what a trial gave on each fresh seed; nothing unless it was trained on all.

        Nor if everything diverged: there is nothing to compare then.
        """
        places = [_place(again, split) for again in map(one.anew, self._seeds)]
        found = [self._known[place] for place in places if place in self._known]
        whole = len(found) == len(places) and (one.language, split) in self._heard
        return found if whole else []

    def mean(self, one: Proposal) -> Fresh:
        """Return the mean of a trial that was trained on all seeds."""
        config = self._search.base.evaluation
        found = self._metric.mean_of_runs(self._statistics(one), resamples=config.resamples)
        compared = self.results(one, config.split)
        return Fresh(
            *found, self._seeds, fmean(r.value(self._search.objective) for r in compared),
            sum(r.status == "diverged" for r in compared),
        )  # fmt: skip

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
        split = self._search.base.evaluation.report_split
        return [self._of(result) for result in self.results(one, split)]

    def _of(self, result: Result) -> Statistics:
        place = _place(result, result.split)
        if place in self._read:
            return self._read[place]
        if result.status == "diverged":  # it has no model: it says nothing to the same references
            other = self._of(self._heard[result.language, result.split])
            found = np.zeros_like(other)
            found[:, 1] = other[:, 1]
        else:
            path = hypotheses_of(self._trials / result.folder, result.split)
            found = read_statistics(path, self._search.objective)
        self._read[place] = found
        return found


def _place(one: Proposal, split: str) -> _Place:
    value = one.overrides[one.knob[:-1]] if one.knob else None
    return one.language, one.trial, one.knob, value, one.seed, split
