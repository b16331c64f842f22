"""What a study proposes: Sobol points, then what a sampler makes of the scores, nothing twice.

A sampler of Optuna's that has seen next to nothing proposes at random; a few points that cover the
space evenly cost the same and teach it more. Where all trials are few, they are better than any
model of them (docs/search.md).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from raystt.config import SearchConfig

SAME_CURVE = 0.02
"""Two schedules whose ratios differ by less, on average over training, are one to the noise."""

_MOMENTS = 50  # at which two schedules are compared
_REDRAWS = 8
_SOBOL_ALONE = 12  # trials of a language; a model of fewer is worse than none

Params = Mapping[str, Any]
Curve = tuple[npt.NDArray[np.float64], Params]
"""What makes a trial: its ratios over training, and what it has of its own beside a schedule."""


def sampler_of(search: SearchConfig, language: str, salt: int) -> Proposals:
    """Return what proposes the trials of a language.

    Args:
        search: The search.
        language: The language.
        salt: Tells one session from another, which would else draw the same again.
    """
    config, trials = search.sampler, search.trials_of(language)
    start = config.startup_trials
    if config.name == "random":
        start = 0
    elif config.name == "sobol" or (config.name == "auto" and trials <= _SOBOL_ALONE):
        start = trials
    seed = (search.seed * 1_000_003 + salt) % 2**31
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        inner = _SAMPLERS[config.name](seed)
    keys = tuple(search.space.ordered())
    name = "tpe" if config.name == "auto" else config.name
    curve = functools.partial(_curve, search, language)
    return Proposals(name, inner, keys, start, search.seed, curve)


_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "auto": lambda seed: _tpe(seed),
    "tpe": lambda seed: _tpe(seed),
    "sobol": lambda seed: RandomSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=0, deterministic_objective=False),
    "cmaes": lambda seed: CmaEsSampler(
        seed=seed, n_startup_trials=0, warn_independent_sampling=False
    ),
    "nsgaii": lambda seed: NSGAIISampler(seed=seed),
}


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(
        seed=seed,
        n_startup_trials=1,
        multivariate=True,
        group=True,  # conditional parameters are modelled with their condition
        constant_liar=True,  # trials still running count, or parallel ones would be alike
    )


class Proposals(BaseSampler):
    """Points of a Sobol sequence for the first proposals, then those of another sampler.

    Args:
        name: Of the other sampler.
        inner: The other sampler.
        keys: All keys of the space, each a dimension of the sequence.
        start: Proposals that the sequence gives; fixed and repeated trials do not count.
        seed: Of the sequence's scrambling.
        curve: Gives what makes a trial of its parameters: ratios over training, and all else.
    """

    def __init__(
        self, name: str, inner: BaseSampler, keys: tuple[str, ...], start: int, seed: int,
        curve: Callable[[Params], Curve | None],
    ) -> None:  # fmt: skip
        self._name, self._inner, self._keys = name, inner, keys
        self._start, self._seed = start, seed
        self._curve = curve
        self._points: dict[int, npt.NDArray[np.float64]] = {}  # by trial that takes one
        self._curves: dict[int, Curve] = {}  # by number of a trial whose values are all drawn

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing for a trial of the sequence: it takes each value by itself."""
        drawn = [
            t for t in study.get_trials(deepcopy=False)
            if t.number < trial.number and proposed(t)
        ]  # fmt: skip
        if len(drawn) < self._start:
            self._points[trial._trial_id] = self._point(len(drawn))
            return {}
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw until it is none that there was; if all are, take the sequence's next point."""
        if trial._trial_id in self._points:
            return {}
        found: dict[str, Any] = {}
        for _ in range(_REDRAWS):
            found = self._inner.sample_relative(study, trial, search_space)
            if not self._known(study, trial.number, found):
                return found
        if self._keys:
            self._points[trial._trial_id] = self._point(trial.number)
            return {}
        return found

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # fmt: skip
        """Give one value of a point of the sequence, else what the other sampler gives."""
        point = self._points.get(trial._trial_id)
        if point is not None and param_name in self._keys:
            return _value(param_distribution, float(point[self._keys.index(param_name)]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def origin(self, trial_id: int) -> str:
        """Name what gave a trial, which has not ended, its values."""
        return "sobol" if trial_id in self._points else self._name

    def known(self, study: optuna.Study, params: Params) -> bool:
        """Say whether a trial like this was proposed before, or is being trained."""
        return self._known(study, None, params)

    def reseed_rng(self) -> None:
        """Reseed the other sampler; the sequence has no state."""
        self._inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell the other sampler."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState,
        values: Any,
    ) -> None:  # fmt: skip
        """Tell the other sampler."""
        self._points.pop(trial._trial_id, None)
        self._inner.after_trial(study, trial, state, values)

    def _point(self, index: int) -> npt.NDArray[np.float64]:
        """Return one point of the sequence, in [0, 1) in each dimension."""
        sequence = qmc.Sobol(max(1, len(self._keys)), rng=np.random.default_rng(self._seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so many points need not be balanced
            point: npt.NDArray[np.float64] = sequence.random(index + 1)[-1]
        return point

    def _known(self, study: optuna.Study, number: int | None, params: Params) -> bool:
        mine = self._curve(params)
        if mine is None:  # not all values are drawn together
            return False
        for other in study.get_trials(deepcopy=False):
            theirs = self._curves.get(other.number)
            if theirs is None and other.number != number and other.params:
                theirs = self._curve(other.params)
                if theirs is not None:
                    self._curves[other.number] = theirs
            if theirs is not None and like(mine, theirs):
                return True
        return False


def proposed(trial: FrozenTrial) -> bool:
    """Say whether a trial came from the sampler; enqueued ones say by a name what they are."""
    return not {"reference", "repeats"} & trial.user_attrs.keys()


def like(a: Curve, b: Curve) -> bool:
    """Say whether two trials hardly differ in their ratios, and not at all in anything else."""
    return a[1] == b[1] and float(np.abs(a[0] - b[0]).mean()) < SAME_CURVE


def _curve(search: SearchConfig, language: str, params: Params) -> Curve | None:
    """Return the ratios over training that parameters give, and all that is no schedule."""
    chosen: dict[str, Any] = {}
    for key in search.space.ordered():
        if search.space.active(key, chosen, language):
            if key not in params:
                return None
            chosen[key] = params[key]
    run = search.run_for(language, chosen)
    rest = {key: value for key, value in chosen.items() if not key.startswith("schedule.")}
    return run.schedule.values(0, _MOMENTS, _MOMENTS), rest


def _value(distribution: BaseDistribution, share: float) -> Any:
    """Return the value of a distribution below which `share` of it lies, as Optuna keeps it."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None:  # an even share for each of the values
        count = int((high - low) / step + 1e-9) + 1
        if not distribution.log:
            value = low + int(share * count) * step
            return int(value) if isinstance(distribution, IntDistribution) else float(value)
    if distribution.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    value = min(high, max(low, value))
    return round(value) if isinstance(distribution, IntDistribution) else value
