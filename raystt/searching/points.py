"""The points of a language's space: how each key is drawn, an even sequence, what each trains."""

from __future__ import annotations

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

_MOMENTS = 50  # at which two schedules are compared

Point = dict[str, Any]
"""Values by dotted key, of the active keys of a space; the overrides of a proposal."""


class Curve(NamedTuple):
    """What makes a trial: its ratios over training, of both sides, and what else may differ."""

    ratios: npt.NDArray[np.float64]
    schedule: Any
    rest: tuple[Any, ...]  # of the run


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
        return Curve(ratios, run.schedule, (run.interleaving, run.training))


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
