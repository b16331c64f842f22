"""What languages learn from each other: what leads in one is tried in the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from raystt.config import SearchConfig
from raystt.results import Proposal, label_of
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import Confirmation
from raystt.searching.proposals import proposed
from raystt.searching.study import LanguageStudy

Fresh = Callable[[Proposal], float | None]
"""Gives the mean of a trial over fresh seeds; None = it was not trained on all of them."""


def fresh_means(search: SearchConfig, directory: RunDirectory) -> Fresh:
    """Return what gives the means that were confirmed, 0 where a fresh seed diverged."""
    # Not the report split, which is to choose nothing.
    split, known = search.base.evaluation.split, Confirmation(search, directory)
    begun = {(r.language, r.trial) for r in directory.read_confirmation()}

    def mean(one: Proposal) -> float | None:
        if (one.language, one.trial) not in begun or known.lacking(one, [split]):
            return None
        found = known.results(one, split)
        whole = found and all(r.status == "complete" for r in found)
        return fmean(r.value(search.objective) for r in found) if whole else 0.0

    return mean


def to_repeat(
    study: LanguageStudy, others: Sequence[LanguageStudy], fresh: Fresh = lambda one: None
) -> tuple[str, dict[str, Any]] | None:
    """Return what leads in another language and was not tried here, at most `transfer.top` times.

    What leads on fresh seeds comes first; what leads on one seed alone may do so by chance.

    Returns:
        Label of the trial, and its point in the space; None if there is none.
    """
    if study.repeated < study.search.transfer.top:
        leading = (lead for other in others for lead in _leading(other, fresh))
        for *_, label, overrides in sorted(leading, key=lambda lead: (not lead[0], -lead[1])):
            point = study.point(overrides)
            if point is not None and not study.tried(point):
                return label, point
    return None


def _leading(
    study: LanguageStudy, fresh: Fresh
) -> Iterator[tuple[bool, float, str, dict[str, Any]]]:
    """Go through the best of a study that beat its fixed runs.

    Yields:
        Whether on fresh seeds, by how much, label and overrides. What was trained on fresh seeds
        leads there or nowhere.
    """
    done = {trial.number: trial for trial in study.finished()}
    means = {n: fresh(one) for n in done if (one := study.proposal(n)) is not None}
    confirmed = {n: mean for n, mean in means.items() if mean is not None}
    once = {n: trial.value or 0.0 for n, trial in done.items()}
    for anew, scores in ((True, confirmed), (False, once)):
        fixed = [score for n, score in scores.items() if "reference" in done[n].user_attrs]
        own = [n for n in scores if proposed(done[n]) and (anew or n not in confirmed)]
        for n in sorted(own, key=lambda n: -scores[n])[: study.search.transfer.top]:
            ahead = scores[n] - max(fixed, default=math.inf)
            if ahead > 0:
                yield anew, ahead, label_of(study.language, n), done[n].user_attrs["overrides"]
