"""The points of a language's space: how each key is drawn, an even sequence, what each trains."""

from __future__ import annotations

import bisect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import QMCSampler
from optuna.trial import FrozenTrial

from raystt.config import SearchConfig

SAME_CURVE = 0.02
"""Two schedules whose ratios differ by less, on average over training, are taken for one."""

_MOMENTS = 50  # at which two schedules are compared

Point = dict[str, Any]
"""Values by dotted key, of the active keys of a space; the overrides of a proposal."""


class Curve(NamedTuple):
    """What makes a trial: its ratios over training, of both sides, and what else may differ."""

    ratios: npt.NDArray[np.float64]
    schedule: str
    rest: str  # of the run


class Curves:
    """What trials train; tells whether one is like any of them, however many they are."""

    def __init__(self) -> None:
        self._same: set[tuple[str, str]] = set()
        # By what else they are: mean ratios, in order, and the ratios.
        self._near: dict[str, tuple[list[float], list[npt.NDArray[np.float64]]]] = {}

    def add(self, curve: Curve) -> None:
        """Add what a trial trains."""
        if self.same(curve):
            return
        self._same.add(curve[1:])
        means, ratios = self._near.setdefault(curve.rest, ([], []))
        mean = float(curve.ratios.mean())
        place = bisect.bisect(means, mean)
        means.insert(place, mean)
        ratios.insert(place, curve.ratios)

    def same(self, curve: Curve) -> bool:
        """Say whether a trial trains the same."""
        return curve[1:] in self._same

    def like(self, curve: Curve) -> bool:
        """Say whether a trial hardly differs in its ratios, and not at all in anything else."""
        means, ratios = self._near.get(curve.rest, ([], []))
        mean = float(curve.ratios.mean())
        # Ratios differ by no less than their means do.
        first = bisect.bisect(means, mean - SAME_CURVE)
        last = bisect.bisect(means, mean + SAME_CURVE)
        return any(
            float(np.abs(curve.ratios - other).mean()) < SAME_CURVE for other in ratios[first:last]
        )


class Points:
    """The points of a space.

    Args:
        search: Whose space it is.
        language: Its language.

    Attributes:
        distributions: How Optuna draws each key, those too that are active under a condition.
    """

    def __init__(self, search: SearchConfig, language: str) -> None:
        self._search, self._language = search, language
        draw = _Draw(lambda name, one: _lowest(one))
        for key, entry in search.space.root.items():
            entry.suggest(draw, key)
        self.distributions = draw.asked
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls itself experimental
            self._sequence = _Sobol(
                scramble=True, seed=search.seed, warn_asynchronous_seeding=False
            )
        self._even: dict[int, tuple[Point, Curve]] = {}  # those that were asked for

    def complete(self, value: Callable[[str, BaseDistribution], Any]) -> Point:
        """Return the point whose active keys have the values of a function, if there are two."""
        draw = _Draw(lambda name, one: _lowest(one) if one.single() else value(name, one))
        return self._search.space.suggest(draw, self._language)

    def even(self, study: optuna.Study, trial: FrozenTrial, number: int) -> tuple[Point, Curve]:
        """Return a point of a scrambled Sobol sequence over the space, by its number."""
        if number not in self._even:
            self._sequence.number = number
            values = self._sequence.sample_relative(study, trial, self.distributions)
            point = self.complete(lambda name, _: values[name])
            self._even[number] = point, self.curve(point)
        return self._even[number]

    def first(self, count: int) -> Iterator[tuple[Point, Curve]]:
        """Go through the first points of a finite space, through none of another."""
        for point in itertools.islice(self._search.space.points(self._language), count):
            yield point, self.curve(point)

    def curve(self, overrides: Mapping[str, Any]) -> Curve:
        """Return what a point trains, or a fixed run."""
        run = self._search.run_for(self._language, overrides)
        ratios = np.concatenate([s.values(0, _MOMENTS, _MOMENTS) for s in run.schedule.sides()])
        rest = run.interleaving.model_dump_json() + run.training.model_dump_json()
        return Curve(ratios, run.schedule.model_dump_json(), rest)


class _Sobol(QMCSampler):
    """Optuna's, which counts in the study how often it was asked: a kill would cost a point.

    Attributes:
        number: Of the point that it gives.
    """

    number = 0

    def _find_sample_id(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution]
    ) -> int:
        return self.number


class _Draw:
    """A trial to suggest values to, which come from a function.

    Attributes:
        asked: The distributions that it was asked for.
    """

    def __init__(self, value: Callable[[str, BaseDistribution], Any]) -> None:
        self._value = value
        self.asked: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self._ask(name, CategoricalDistribution(choices))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        return float(self._ask(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        return int(self._ask(name, IntDistribution(low, high, log=log, step=step)))

    def _ask(self, name: str, one: BaseDistribution) -> Any:
        self.asked[name] = one
        return self._value(name, one)


def _lowest(one: Any) -> Any:
    return one.choices[0] if isinstance(one, CategoricalDistribution) else one.low
