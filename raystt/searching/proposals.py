"""What a study proposes: points that cover the space, or what a sampler makes of the scores.

Few trials are best spread evenly (docs/method.md). Nothing is proposed twice while there is
anything else. What is drawn for a trial depends on the search, its number and the trials before
it, not on when the search was killed.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from raystt.config import SearchConfig
from raystt.searching.points import Curves, Point, Points

_DRAWS = 8  # of a sampler, before a point of the sequence is taken
_AHEAD = 256  # points of the sequence, above four a trial, among which a new one is looked for
_SOBOL_ALONE = 12  # trials of a language
_TOGETHER = ("gp", "cmaes", "nsgaii")  # model only what all finished trials have values of


class NSGAIISampler(optuna.samplers.NSGAIISampler):
    """Optuna's, whose name is in the journal, with a generation's parents in one order.

    Whoever selects them has them in another order than whoever finds them in the study, such as
    the same trial after a kill, which would draw something else.
    """

    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Select them as Optuna does, and return them by number, as they are found."""
        return sorted(super().select_parent(study, generation), key=lambda one: one.number)


# The fixed runs begin a study: what Optuna's samplers would draw at random first is one at most,
# but for NSGA-II, of which that is its first generation.
_SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(
        seed=seed,
        n_startup_trials=1,
        multivariate=True,
        group=True,  # conditional parameters are modelled with their condition
        constant_liar=True,  # trials still running count, or parallel ones would be alike
    ),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=1, deterministic_objective=False),
    "cmaes": lambda seed: CmaEsSampler(
        seed=seed, n_startup_trials=1, warn_independent_sampling=False
    ),
    "nsgaii": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "sobol": lambda seed: RandomSampler(seed=seed),  # never asked for what the sequence gives
}


def sampler_of(search: SearchConfig, language: str) -> Proposals:
    """Return what proposes the trials of a language."""
    name: str = search.sampler
    if name == "auto":
        name = "sobol" if search.trials_of(language) <= _SOBOL_ALONE else "tpe"

    def made(number: int) -> BaseSampler:
        identity = (search.seed, zlib.crc32(language.encode()), number)
        with _quiet():
            return _SAMPLERS[name](int(np.random.SeedSequence(identity).generate_state(1)[0]))

    return Proposals(name, made, Points(search, language), draws=0 if name == "sobol" else _DRAWS)


class Proposals(BaseSampler):
    """Those of a sampler, but points of an even sequence where it knows none that is new.

    Args:
        name: Of the sampler.
        made: Makes it for the trial of a number: one that has drawn for other trials draws
            something else than one that was made after a kill.
        points: Those of the space.
        draws: How often the sampler is asked before a point of the sequence is taken.
    """

    def __init__(
        self, name: str, made: Callable[[int], BaseSampler], points: Points, draws: int
    ) -> None:
        self._name, self._made, self._inner = name, made, made(0)
        self._points, self._draws = points, draws
        self._evenly: set[int] = set()  # trials that take a point of the sequence
        self._curves = Curves()  # of the trials that have their values
        self._taken: set[int] = set()  # their numbers
        self._passed: Counter[str] = Counter()  # points of the sequence that are known

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all that there is to draw: a proposal is looked at as a whole."""
        if not proposed(trial):
            return {}
        together = self._inner.infer_relative_search_space(self._seen(study), trial)
        return together | self._points.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw until it is none that there was; if all are, take a point of the sequence."""
        if not search_space:
            return {}
        found = self._new(study, trial)
        return {name: value for name, value in found.items() if name in search_space}

    def _new(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        self._forget(study, trial)
        self._look(study, trial.number)
        for _ in range(self._draws):
            with _quiet():
                together, point = self._drawn(study, trial)
            if not self._curves.like(self._points.curve(point)):
                return together | point
        self._evenly.add(trial._trial_id)
        return self._unvisited(study, trial)

    def _forget(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Drop what a sampler noted of a trial before a kill: it would count as one that runs."""
        for key in trial.system_attrs:
            if "relative_params" in key:
                study._storage.set_trial_system_attr(trial._trial_id, key, "")

    def _drawn(self, study: optuna.Study, trial: FrozenTrial) -> tuple[dict[str, Any], Point]:
        """Return what the sampler draws together, and the point that it gives."""
        inner, seen = self._inner, self._seen(study)
        space = inner.infer_relative_search_space(seen, trial)
        together = inner.sample_relative(seen, trial, space)

        def value(name: str, one: BaseDistribution) -> Any:
            if name in together:
                return together[name]
            return inner.sample_independent(seen, trial, name, one)

        return together, self._points.complete(value)

    def _unvisited(self, study: optuna.Study, trial: FrozenTrial) -> Point:
        """Return the first point of the sequence that is like no trial, or else is no trial.

        Where the sequence has come near all of a finite space, it is gone through; where there is
        no other point, one is proposed again.
        """
        for name, alike in (("like", self._curves.like), ("same", self._curves.same)):
            while self._passed[name] < 4 * trial.number + _AHEAD:
                point, curve = self._points.even(study, trial, self._passed[name])
                if not alike(curve):
                    return point
                self._passed[name] += 1
        for point, curve in self._points.first(trial.number + 1):
            if not self._curves.same(curve):
                return point
        return self._points.even(study, trial, trial.number)[0]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # fmt: skip
        """Give what is not drawn together."""
        seen = self._seen(study)
        with _quiet():
            return self._inner.sample_independent(seen, trial, param_name, param_distribution)

    def _seen(self, study: optuna.Study) -> optuna.Study:
        """Return the study as the sampler is to see it.

        TPE sees all of it: a score without values still counts as one to be better than.
        """
        return _Within(study) if self._name in _TOGETHER else study

    def origin(self, trial_id: int) -> str:
        """Name what gave a trial, which has not ended, its values."""
        return "sobol" if trial_id in self._evenly else self._name

    def known(self, study: optuna.Study, overrides: Mapping[str, Any]) -> bool:
        """Say whether a trial like this was begun before."""
        self._look(study, len(study.get_trials(deepcopy=False)))
        return self._curves.like(self._points.curve(overrides))

    def _look(self, study: optuna.Study, count: int) -> None:
        """Take in those of the first `count` trials that have their values by now."""
        storage = study._storage
        for number in range(count):
            if number in self._taken:
                continue
            known = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
            overrides = storage.get_trial(known).user_attrs.get("overrides")
            if overrides is not None:
                self._curves.add(self._points.curve(overrides))
                self._taken.add(number)

    def reseed_rng(self) -> None:
        """Reseed the sampler; the sequence stays what it is."""
        self._inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the sampler of the trial, and tell it."""
        self._inner = self._made(trial.number)
        self._inner.before_trial(self._seen(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState,
        values: Sequence[float] | None,
    ) -> None:  # fmt: skip
        """Tell the sampler."""
        self._evenly.discard(trial._trial_id)
        self._inner.after_trial(self._seen(study), trial, state, values)


class _Within(optuna.Study):
    """A study without its finished trials outside of the space, of which it has no values.

    One of them, and there would be no value that all finished trials have: samplers that draw
    such values together would draw at random. It is the same study to all that is written.
    """

    def __init__(self, study: optuna.Study) -> None:
        vars(self).update(vars(study))  # shares storage and cache

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in trials if trial.params or not trial.state.is_finished()]


def proposed(trial: FrozenTrial) -> bool:
    """Say whether a trial came from the sampler; enqueued ones say by a name what they are."""
    return not {"reference", "repeats"} & trial.user_attrs.keys()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # samplers call themselves experimental
        yield
