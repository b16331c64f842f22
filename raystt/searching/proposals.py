"""What a study proposes: points that cover the space, or what a sampler makes of the scores.

Few trials are best spread evenly (docs/method.md); nothing is proposed twice.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from raystt.config import SearchConfig
from raystt.config.space import Space

SAME_CURVE = 0.02
"""Two schedules whose ratios differ by less, on average over training, are taken for one."""

_MOMENTS = 50  # at which two schedules are compared
_REDRAWS = 8
_SOBOL_ALONE = 12  # trials of a language

Params = Mapping[str, Any]
Curve = tuple[npt.NDArray[np.float64], Params]
"""What makes a trial: its ratios over training, of both sides, and what is its own beside them."""

# The fixed runs begin a study: what Optuna's samplers would draw at random first is one at most.
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


def sampler_of(search: SearchConfig, language: str, salt: int) -> Proposals:
    """Return what proposes the trials of a language.

    Args:
        search: The search.
        language: The language.
        salt: Tells one session from another, which would else draw the same again.
    """
    name: str = search.sampler
    if name == "auto":
        name = "sobol" if search.trials_of(language) <= _SOBOL_ALONE else "tpe"
    with _quiet():
        inner = _SAMPLERS[name]((search.seed * 1_000_003 + salt) % 2**31)
        even = QMCSampler(scramble=True, seed=search.seed, warn_asynchronous_seeding=False)
    curve = functools.partial(_curve, search, language)
    space = _distributions(search.space) if name == "sobol" else None
    return Proposals(name, inner, even, space, curve)


class Proposals(BaseSampler):
    """Those of a sampler, but points of an even sequence where it knows none that is new.

    Args:
        name: Of the sampler.
        inner: The sampler.
        even: Gives the sequence.
        space: All keys of the space, those too that are active under a condition: the sequence
            gives all proposals. None = the sampler does.
        curve: Gives what makes a trial of its parameters; None = some are not drawn yet.
    """

    def __init__(
        self, name: str, inner: BaseSampler, even: BaseSampler,
        space: dict[str, BaseDistribution] | None, curve: Callable[[Params], Curve | None],
    ) -> None:  # fmt: skip
        self._name, self._inner, self._even = name, inner, even
        self._space, self._curve = space, curve
        self._evenly: set[int] = set()  # trials that take a point of the sequence
        self._curves: dict[int, Curve] = {}  # by number of a trial whose values are all drawn

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn together: of the sequence, the whole space."""
        if not proposed(trial):
            return {}
        if self._space is not None:
            self._evenly.add(trial._trial_id)
            return dict(self._space)
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw until it is none that there was; if all are, take a point of the sequence."""
        sampler = self._even if trial._trial_id in self._evenly else self._inner
        for _ in range(_REDRAWS):
            with _quiet():
                found = sampler.sample_relative(study, trial, search_space)
            if not self.known(study, found):
                return found
        self._evenly.add(trial._trial_id)
        return self._even.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # fmt: skip
        """Give what is not drawn together."""
        with _quiet():
            return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def origin(self, trial_id: int) -> str:
        """Name what gave a trial, which has not ended, its values."""
        return "sobol" if trial_id in self._evenly else self._name

    def known(self, study: optuna.Study, params: Params) -> bool:
        """Say whether a trial like this was proposed before, or is being trained."""
        mine = self._curve(params)
        return mine is not None and any(like(mine, other) for other in self._trained(study))

    def _trained(self, study: optuna.Study) -> Iterator[Curve]:
        for trial in study.get_trials(deepcopy=False):
            curve = self._curves.get(trial.number)
            if curve is None and trial.params:
                curve = self._curve(trial.params)
            if curve is not None:
                self._curves[trial.number] = curve
                yield curve

    def reseed_rng(self) -> None:
        """Reseed the sampler; the sequence keeps its place in the study."""
        self._inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell the sampler."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState,
        values: Sequence[float] | None,
    ) -> None:  # fmt: skip
        """Tell the sampler."""
        self._evenly.discard(trial._trial_id)
        self._inner.after_trial(study, trial, state, values)


def proposed(trial: FrozenTrial) -> bool:
    """Say whether a trial came from the sampler; enqueued ones say by a name what they are."""
    return not {"reference", "repeats"} & trial.user_attrs.keys()


def like(a: Curve, b: Curve) -> bool:
    """Say whether two trials hardly differ in their ratios, and not at all in anything else."""
    return a[1] == b[1] and float(np.abs(a[0] - b[0]).mean()) < SAME_CURVE


def _curve(search: SearchConfig, language: str, params: Params) -> Curve | None:
    """Return the ratios over training that parameters give, and all that is no schedule."""
    try:
        chosen = search.space.choose(language, params.__getitem__)
    except KeyError:
        return None
    run = search.run_for(language, chosen)
    rest = {key: value for key, value in chosen.items() if not key.startswith("schedule.")}
    sides = [side.values(0, _MOMENTS, _MOMENTS) for side in run.schedule.sides()]
    return np.concatenate(sides), rest


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return how Optuna draws each key of a space."""
    asked = _Asked()
    for key, entry in space.root.items():
        entry.suggest(asked, key)
    return asked.found


class _Asked:
    """A trial that takes note of what it is asked for."""

    def __init__(self) -> None:
        self.found: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        self.found[name] = CategoricalDistribution(choices)
        return choices[0]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        self.found[name] = FloatDistribution(low, high, log=log, step=step)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.found[name] = IntDistribution(low, high, log=log, step=step)
        return low


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # samplers call themselves experimental
        yield
