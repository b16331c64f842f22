"""Ways to search a landscape of schedules: those of others, and raystt's own code.

A way gives answers with the full trainings that they have cost a language, cheapest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket
from surrogate import MOMENTS, Curve, Landscape

from raystt.config import BASELINE, SearchConfig
from raystt.searching import proposals
from raystt.searching.study import LanguageStudy
from raystt.searching.transfer import to_repeat

MOST = 60  # full trainings of a language
_RUNGS = (0.25, 0.5)


@dataclass(frozen=True)
class Answer:
    """What a way would answer.

    Attributes:
        cost: Full trainings of the language until then.
        curve: The schedule it recommends.
        reported: The score that it names for it.
    """

    cost: float
    curve: Curve
    reported: float


Answers = dict[str, list[Answer]]
"""By language."""
Way = Callable[[Mapping[str, Landscape], int], Answers]
"""Takes the landscapes by language, and a seed."""


def _alone(way: Callable[[Landscape, int], Iterator[Answer]]) -> Way:
    """Make a way of what searches each language by itself."""

    def each(landscapes: Mapping[str, Landscape], seed: int) -> Answers:
        return {name: list(way(one, seed + 7919 * n))
                for n, (name, one) in enumerate(landscapes.items())}  # fmt: skip

    return each


def plain(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Way:
    """Return the way of full trainings that a sampler of Optuna's proposes; the highest wins."""

    def way(landscape: Landscape, seed: int) -> Iterator[Answer]:
        study, rng = _study(sampler(seed)), np.random.default_rng(seed)
        highest = Answer(0.0, np.zeros(MOMENTS), -1.0)
        for cost in range(1, MOST + 1):
            trial, curve = _asked(study, landscape)
            score = landscape.observed(curve, rng)
            study.tell(trial, score)
            if score > highest.reported:
                highest = Answer(cost, curve, score)
            yield Answer(cost, highest.curve, highest.reported)

    return _alone(way)


def asha(landscape: Landscape, seed: int) -> Iterator[Answer]:
    """Replay `OptunaSearch` with `ASHAScheduler`: the trunk's own scores decide at the rungs.

    As Tune does it, a stopped trial is told with its last score like any other.
    """
    study, rng = _study(optuna.samplers.TPESampler(seed=seed)), np.random.default_rng(seed)
    bracket = _Bracket(min_t=1, max_t=4, reduction_factor=2, s=0)
    cost, highest = 0.0, Answer(0.0, np.zeros(MOMENTS), -1.0)
    while cost < MOST:
        trial, curve = _asked(study, landscape)
        name: Any = _Named(str(trial.number))
        for rung, at in enumerate(_RUNGS):
            score = landscape.seen("trunk", at, curve, rng)
            if bracket.on_result(name, 2**rung, score) == TrialScheduler.STOP:
                cost += at
                break
        else:
            score, cost = landscape.observed(curve, rng), cost + 1.0
            if score > highest.reported:
                highest = Answer(cost, curve, score)
        study.tell(trial, score)
        yield Answer(cost, highest.curve, highest.reported)


@dataclass(frozen=True)
class _Named:
    trial_id: str


def pruner(landscape: Landscape, seed: int) -> Iterator[Answer]:
    """Replay Optuna with its own pruner, the median rule, over the trunk's own scores."""
    study, rng = _study(optuna.samplers.TPESampler(seed=seed)), np.random.default_rng(seed)
    study.pruner = optuna.pruners.MedianPruner()
    cost, highest = 0.0, Answer(0.0, np.zeros(MOMENTS), -1.0)
    while cost < MOST:
        trial, curve = _asked(study, landscape)
        for rung, at in enumerate(_RUNGS):
            trial.report(landscape.seen("trunk", at, curve, rng), rung + 1)
            if trial.should_prune():
                cost += at
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            score, cost = landscape.observed(curve, rng), cost + 1.0
            study.tell(trial, score)
            if score > highest.reported:
                highest = Answer(cost, curve, score)
        yield Answer(cost, highest.curve, highest.reported)


def pbt(landscape: Landscape, seed: int) -> Iterator[Answer]:
    """Replay population based training on the ratio, with Tune's defaults, in four rounds.

    A quarter of the population copies the model of the best quarter and goes on with its ratio
    times 0.8 or 1.2, or one drawn anew; the curve of a model is the ratios that it was trained on.
    """
    rng = np.random.default_rng(seed)
    for size in (8, 12, 16, 24, 36, 48, 60):
        ratios, curves = rng.uniform(0, 1, size), np.zeros((size, 0))
        for rung in range(4):
            held = np.repeat(ratios[:, None], MOMENTS // 4, axis=1)
            curves = np.concatenate([curves, held], axis=1)
            at = (rung + 1) / 4
            if at not in _RUNGS:  # nothing was measured at three quarters
                continue
            scores = [landscape.seen("trunk", at, curve, rng) for curve in curves]
            order, quarter = np.argsort(scores), max(1, size // 4)
            for low, high in zip(
                order[:quarter], rng.choice(order[-quarter:], quarter), strict=True
            ):
                curves[low] = curves[high]
                anew = rng.random() < 0.25
                ratios[low] = rng.uniform(0, 1) if anew else ratios[high] * rng.choice([0.8, 1.2])
            ratios = ratios.clip(0, 1)
        final = [landscape.observed(curve, rng) for curve in curves]
        place = int(np.argmax(final))
        yield Answer(size, curves[place], final[place])


@dataclass
class Tried:
    """A trial of the replay: what it is, its curve and its score."""

    reference: str | None
    curve: Curve
    score: float


def raystt(
    *, confirm: tuple[int, int] | None = (2, 2), leader: bool = False, near: float | None = None,
    **changes: Any,
) -> Way:  # fmt: skip
    """Return raystt's own way: its studies, its proposals, what it confirms and how it decides.

    Args:
        confirm: Leading proposals that are trained anew, and on how many seeds; None = nothing is.
        leader: Answer the best of what was confirmed, shown to be better or not.
        near: Mean difference of two curves below which they are taken for one.
        **changes: Of the search: `sampler`, `transfer`, `references`.
    """

    def way(landscapes: Mapping[str, Landscape], seed: int) -> Answers:
        usual = proposals.SAME_CURVE
        proposals.SAME_CURVE = usual if near is None else near
        try:
            few = _run(landscapes, seed, proposals._SOBOL_ALONE, changes)
            many = _run(landscapes, seed, MOST, changes)
        finally:
            proposals.SAME_CURVE = usual
        found: Answers = {}
        for language, landscape in landscapes.items():
            rng = np.random.default_rng([seed, len(found)])
            found[language] = [
                _answer(landscape, budget, few[language], many[language], confirm, leader, rng)
                for budget in (8, 12, 16, 24, 36, 48, 60)
            ]
        return found

    return way


def _run(
    landscapes: Mapping[str, Landscape], seed: int, trials: int, changes: Mapping[str, Any]
) -> dict[str, list[Tried]]:
    """Run the trials of all languages in turns, so that they can learn from each other."""
    search: SearchConfig = next(iter(landscapes.values())).search
    given = {"sampler": {}, "transfer": {}, "ablations": {}, "seed": seed, "trials": trials}
    search = SearchConfig.model_validate(
        {**search.model_dump(mode="python", exclude_unset=True), **given, **changes}
    )
    studies = {
        name: LanguageStudy(search, name, optuna.storages.InMemoryStorage()) for name in landscapes
    }
    tried: dict[str, list[Tried]] = {name: [] for name in landscapes}
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        for name, study in studies.items():
            others = [other for other in studies.values() if other is not study]
            trial = study.ask(partial(to_repeat, study, others))
            if trial is None:
                continue
            curve = landscapes[name].curve(trial.overrides)
            score = landscapes[name].observed(curve, rng)
            study.tell(trial.trial, score, {})
            tried[name].append(Tried(trial.reference, curve, score))
    return tried


def _answer(
    landscape: Landscape, budget: int, few: Sequence[Tried], many: Sequence[Tried],
    confirm: tuple[int, int] | None, leader: bool, rng: np.random.Generator,
) -> Answer:  # fmt: skip
    """Return what a budget gives, the trainings that confirm included."""
    top, seeds = confirm or (0, 0)
    trials = budget - (top + 1) * seeds  # the paper's schedule is trained anew too
    if trials < proposals._SOBOL_ALONE - 4 and confirm is not None:
        top, trials = 0, budget
    tried = (few if trials <= proposals._SOBOL_ALONE else many)[:trials]
    highest = max(tried, key=lambda one: one.score)
    if not top:
        return Answer(budget, highest.curve, highest.score)
    own = sorted((t for t in tried if t.reference is None), key=lambda t: -t.score)[:top]
    paper = next(t for t in tried if t.reference == BASELINE)

    def anew(one: Tried) -> float:
        return fmean(landscape.observed(one.curve, rng) for _ in range(seeds))

    means = [anew(one) for one in own]
    best, held = int(np.argmax(means)), anew(paper)
    error = landscape.noise * math.sqrt(2 / seeds)
    shown = means[best] - held > 1.96 * error
    if shown or (leader and means[best] > held):
        return Answer(budget, own[best].curve, means[best])
    return Answer(budget, paper.curve, held)


def _study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction="maximize")


def _asked(study: optuna.Study, landscape: Landscape) -> tuple[optuna.Trial, Curve]:
    trial = study.ask()
    overrides = landscape.search.space.suggest(trial, landscape.language)
    return trial, landscape.curve(overrides)


def _sobol(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.QMCSampler(
        seed=seed, scramble=True, warn_asynchronous_seeding=False, warn_independent_sampling=False
    )


WAYS: dict[str, Way] = {
    "random": plain(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    "Sobol": plain(_sobol),
    "TPE of Optuna": plain(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "OptunaSearch + ASHA": _alone(asha),
    "Optuna + median pruner": _alone(pruner),
    "PBT on the ratio": _alone(pbt),
    "raystt": raystt(),
    "raystt, the leader whether shown or not": raystt(leader=True),
    "raystt, 3 seeds": raystt(confirm=(2, 3)),
    "raystt, top 4": raystt(confirm=(4, 2)),
    "raystt without confirmation": raystt(confirm=None),
    "raystt without transfer": raystt(transfer={"top": 0}),
    "raystt without the even start": raystt(sampler={"startup_trials": 0}),
    "raystt with Sobol alone": raystt(sampler={"name": "sobol"}),
    "raystt with GP": raystt(sampler={"name": "gp"}),
    "raystt with near-duplicates": raystt(near=0.0),
    "raystt without references but the paper's": raystt(references=("paper",)),
}
"""What is compared, by name."""
