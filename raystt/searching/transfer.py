"""What languages learn from each other: what leads in one is tried in the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from raystt.searching.proposals import proposed
from raystt.searching.study import LanguageStudy


def to_repeat(
    study: LanguageStudy, others: Sequence[LanguageStudy]
) -> tuple[str, dict[str, Any]] | None:
    """Return what leads in another language and was not tried here, at most `transfer.top` times.

    Returns:
        Label of the trial, and its point in the space; None if there is none.
    """
    if study.repeated < study.search.transfer.top:
        leading = (lead for other in others for lead in _leading(other))
        for _, label, overrides in sorted(leading, key=lambda lead: -lead[0]):
            point = study.point(overrides)
            if point is not None and not study.tried(point):
                return label, point
    return None


def _leading(study: LanguageStudy) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Go through the best of a study that beat its fixed runs: by how much, label, overrides."""
    done = study.finished()
    scores = {trial.number: trial.value or 0.0 for trial in done}
    fixed = [scores[trial.number] for trial in done if "reference" in trial.user_attrs]
    own = [trial for trial in done if proposed(trial)]
    if not fixed:
        return
    for trial in sorted(own, key=lambda t: -scores[t.number])[: study.search.transfer.top]:
        ahead = scores[trial.number] - max(fixed)
        if ahead > 0:
            yield ahead, f"{study.language}#{trial.number}", trial.user_attrs["overrides"]
