"""Whether the best schedule stands at a top: each of its numbers a notch up and a notch down.

A search that was too short leaves its best on a slope. So its neighbours are trained too, on the
fresh seeds that confirmed it, and are held against it on the split that chose nothing
(`confirm.certificate`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raystt.config import SearchConfig
from raystt.config.entry import Entry, Value, tidy
from raystt.results import Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import Confirmation, Difference
from raystt.searching.verdict import Answer

NOTCHES = 10
"""Notches in a range without a step."""


@dataclass(frozen=True)
class Neighbour:
    """A neighbour of the best.

    Attributes:
        knob: The key that differs, with the direction, such as `schedule.end+`.
        value: Its value there.
        difference: Score of the neighbour minus that of the best, over the same fresh seeds.
    """

    knob: str
    value: Value
    difference: Difference


@dataclass(frozen=True)
class Certificate:
    """What is known of the neighbours of a language's best.

    Attributes:
        verdict: In words, whether one of them is better.
        neighbours: Those with a score on all fresh seeds, the highest first.
    """

    verdict: str
    neighbours: tuple[Neighbour, ...]


def notches(entry: Entry, value: Value) -> Iterator[tuple[str, Value]]:
    """Give what stands next to a value, as ("+", value) and ("-", value); words have no next."""
    if isinstance(value, (bool, str)):
        return
    if entry.choice is not None:
        numbers = sorted(v for v in entry.choice if not isinstance(v, (bool, str)))
        if value in numbers:  # an ablation need not lie within the space
            at = numbers.index(value)
            yield from (("+", above) for above in numbers[at + 1 : at + 2])
            yield from (("-", below) for below in numbers[:at][-1:])
        return
    low, high = entry.bounds
    if not low <= value <= high:
        return
    for sign, towards in (("+", 1), ("-", -1)):
        if entry.log:
            moved = value * (high / low) ** (towards / NOTCHES)
        else:
            moved = value + towards * (entry.step or (high - low) / NOTCHES)
        moved = min(high, max(low, tidy(moved)))
        if entry.int_ is not None:
            away = math.ceil(moved) if towards > 0 else math.floor(moved)
            moved = int(min(high, max(low, away)))
        if moved != value:
            yield sign, moved


def neighbours(search: SearchConfig, best: Result) -> list[Proposal]:
    """Return the neighbours of a proposal within the space, as far as they are schedules.

    An ablation need not lie within the space, nor then do all its neighbours make sense: an `end`
    may come before the `hold` is over.
    """
    found = [
        Proposal(
            language=best.language, trial=best.trial, reference=None, seed=best.seed,
            overrides={**best.overrides, key: moved}, origin=best.origin, knob=key + sign,
        )
        for key, value in best.overrides.items()
        if key in search.space.root
        for sign, moved in notches(search.space.root[key], value)
    ]  # fmt: skip
    return [one for one in found if _is_run(search, one)]


def _is_run(search: SearchConfig, one: Proposal) -> bool:
    try:
        search.run_for(one.language, one.overrides)
    except ValueError:
        return False
    return True


def missing_neighbours(
    search: SearchConfig, directory: RunDirectory, answers: Mapping[str, Answer]
) -> list[tuple[Proposal, list[str]]]:
    """Return the neighbours that are still to be trained, and the split to score them on."""
    if not search.confirm.certificate:
        return []
    known, split = Confirmation(search, directory), search.base.evaluation.report_split
    return [
        lacking
        for answer in answers.values() if answer.best is not None
        for neighbour in neighbours(search, answer.best)
        for lacking in known.lacking(neighbour, [split])
    ]  # fmt: skip


def certificate(
    search: SearchConfig, directory: RunDirectory, answer: Answer
) -> Certificate | None:
    """Return what is known of the neighbours of a language's best; None if none was asked for."""
    if not search.confirm.certificate or answer.best is None:
        return None
    best, wanted = answer.best, neighbours(search, answer.best)
    known, split = Confirmation(search, directory), search.base.evaluation.report_split
    # One that diverged on a seed is no better.
    trained = [one for one in wanted if known.results(one, split)]
    differences = known.compare([(one, best) for one in trained])
    rows = sorted(
        (
            Neighbour(one.knob, one.overrides[one.knob[:-1]], difference)
            for one, difference in zip(trained, differences, strict=True)
        ),
        key=lambda row: -row.difference.score,
    )
    return Certificate(_words(rows, len(wanted)), tuple(rows))


def _words(rows: list[Neighbour], wanted: int) -> str:
    better = [r for r in rows if r.difference.better]
    if better:
        return f"not at a top: better are {', '.join(f'{r.knob} ({r.value:g})' for r in better)}"
    if len(rows) < wanted:
        return f"not known to be at a top: {len(rows)} of {wanted} neighbours have a score"
    gain = max((r.difference.ci[1] for r in rows), default=0.0)
    open_ = f"; gains of up to {gain:.1f} are not excluded" if gain > 0 else ""
    return f"at a top: none of its {wanted} neighbours is shown to be better{open_}"
