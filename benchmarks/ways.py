"""Ways to search a landscape of schedules: those of others, and raystt's own code.

A way gives answers with the full trainings that they have cost a language, cheapest first. Each
trains the paper's staircase too, which may be its answer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from landscape import COOLDOWN
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket
from scipy import stats
from surrogate import MOMENTS, Curve, Landscape

from raystt.config import BASELINE, SearchConfig
from raystt.searching import points, proposals
from raystt.searching.study import LanguageStudy
from raystt.searching.transfer import to_repeat

BUDGETS = (8, 12, 16, 24, 36, 48, 60)
"""Full trainings of a language."""
MOST = max(BUDGETS)
TRUST = 0.3
"""Lower bound of the rank correlation from which on a signal may drop proposals."""
_RUNGS = (0.25, 0.5)


@dataclass(frozen=True)
class Answer:
    """What a way would answer.

    Attributes:
        cost: Full trainings of the language until then.
        curve: The schedule it recommends.
        reported: The score that it names for it.
        told: What raystt says of how much the highest score flattered itself; None = it is silent.
        dropped: Whether any proposal was not promoted.
    """

    cost: float
    curve: Curve
    reported: float
    told: float | None = None
    dropped: bool = False


Answers = dict[str, list[Answer]]
"""By language."""
Way = Callable[[Mapping[str, Landscape], int], Answers]
"""Takes the landscapes by language, and a seed."""


def _alone(way: Callable[[Landscape, int], Iterator[Answer]]) -> Way:
    """Make a way of what searches each language by itself; the paper's staircase is trained first.

    The staircase is no member of the family, so samplers are not told of it.
    """

    def searched(landscape: Landscape, seed: int) -> Iterator[Answer]:
        curve = landscape.curve(landscape.search.reference(BASELINE))
        paper = Answer(1.0, curve, landscape.observed(curve, np.random.default_rng([seed, 1])))
        yield paper
        for found in way(landscape, seed):
            yield replace(max(found, paper, key=lambda a: a.reported), cost=found.cost + 1)

    def each(landscapes: Mapping[str, Landscape], seed: int) -> Answers:
        return {name: list(searched(one, seed + 7919 * n))
                for n, (name, one) in enumerate(landscapes.items())}  # fmt: skip

    return each


def plain(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Way:
    """Return the way of full trainings that a sampler of Optuna's proposes; the highest wins."""

    def way(landscape: Landscape, seed: int) -> Iterator[Answer]:
        study, rng = _study(sampler(seed)), np.random.default_rng(seed)
        highest = Answer(0.0, np.zeros(MOMENTS), -1.0)
        for cost in range(1, MOST):
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
    while cost < MOST - 1:
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
    while cost < MOST - 1:
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
    for size in (budget - 1 for budget in BUDGETS):
        ratios, curves = rng.uniform(0, 1, size), np.zeros((size, 0))
        for rung in range(4):
            held = np.repeat(ratios[:, None], MOMENTS // 4, axis=1)
            curves = np.concatenate([curves, held], axis=1)
            at = (rung + 1) / 4
            if at not in _RUNGS:  # nothing was measured at three quarters
                continue
            # What a trunk shows was measured of whole schedules: as if the ratio stayed.
            rest = ((0, 0), (0, MOMENTS - curves.shape[1]))
            scores = [landscape.seen("trunk", at, curve, rng)
                      for curve in np.pad(curves, rest, mode="edge")]  # fmt: skip
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
    """A trial of the replay: what it is, its curve, its score and what it has cost.

    Without a score it was not promoted.
    """

    reference: str | None
    curve: Curve
    score: float | None
    cost: float


@dataclass(frozen=True)
class Rung:
    """A signal by which the leading third of the proposals is promoted to a full training.

    Attributes:
        kind: "fork", a branch that is cooled down, or "compressed", the schedule in fewer steps.
        at: Share of the training after which, or in which, it is seen.
        calibrate: Proposals that are both seen and trained in full, before any is dropped.
        always: Whether proposals are dropped from then on, however the ranks agree.
    """

    kind: str
    at: float
    calibrate: int = 8
    always: bool = False

    @property
    def cost(self) -> float:
        """Of the signal alone; what a fork's trunk has trained counts for the full training."""
        return self.at + (COOLDOWN if self.kind == "fork" else 0.0)

    @property
    def extra(self) -> float:
        """What the signal of a promoted trial costs beside its full training."""
        return COOLDOWN if self.kind == "fork" else self.at


def trusted(signals: Sequence[tuple[float, float]]) -> bool:
    """Say whether the ranks of signals and scores agree, by the lower bound of Spearman's rho."""
    if len(signals) < 4:
        return False
    rho = min(0.999, float(stats.spearmanr(*zip(*signals, strict=True))[0]))
    return math.tanh(math.atanh(rho) - 1.645 / math.sqrt(len(signals) - 3)) > TRUST


def raystt(
    *, confirm: tuple[int, int] | None = (1, 4), cautious: bool = False, near: float | None = None,
    each: int = 1, rung: Rung | None = None, **changes: Any,
) -> Way:  # fmt: skip
    """Return raystt's own way: its studies, its proposals, what it confirms and how it decides.

    Args:
        confirm: Leading proposals that are trained anew, and on how many seeds; None = nothing is.
        cautious: Answer the paper's schedule unless what leads on fresh seeds is shown to be
            better, as `best/` does; else what leads, the paper's schedule included.
        near: Mean difference of two curves below which they are taken for one.
        each: Seeds that every trial is trained on; its score is their mean.
        rung: Signal that decides which proposals are trained in full; None = all are.
        **changes: Of the search: `sampler`, `transfer`, `references`.
    """

    def way(landscapes: Mapping[str, Landscape], seed: int) -> Answers:
        key = seed, near, each, rung, repr(changes)
        if key not in _RUNS:  # ways that differ in what they confirm share their trials
            usual = points.SAME_CURVE
            points.SAME_CURVE = usual if near is None else near
            try:
                trials = (proposals._SOBOL_ALONE, MOST if rung is None else 2 * MOST)
                _RUNS[key] = [_run(landscapes, seed, n, each, rung, changes) for n in trials]
            finally:
                points.SAME_CURVE = usual
        few, many = _RUNS[key]
        found: Answers = {}
        for language, landscape in landscapes.items():
            rng = np.random.default_rng([seed, len(found)])
            found[language] = [
                _answer(landscape, budget, few[language], many[language], confirm, cautious, rng)
                for budget in BUDGETS
            ]
        return found

    return way


_RUNS: dict[Any, list[dict[str, list[Tried]]]] = {}
"""Trials by language, of few trials and of many, by what makes them."""


def _run(
    landscapes: Mapping[str, Landscape], seed: int, trials: int, each: int, rung: Rung | None,
    changes: Mapping[str, Any],
) -> dict[str, list[Tried]]:  # fmt: skip
    """Run the trials of all languages in turns, so that they can learn from each other."""
    search: SearchConfig = next(iter(landscapes.values())).search
    given = {"sampler": "auto", "transfer": {}, "ablations": {}, "seed": seed, "trials": trials}
    search = SearchConfig.model_validate(
        {**search.model_dump(mode="python", exclude_unset=True), **given, **changes}
    )
    studies = {
        name: LanguageStudy(search, name, optuna.storages.InMemoryStorage()) for name in landscapes
    }
    tried: dict[str, list[Tried]] = {name: [] for name in landscapes}
    signals: dict[str, list[tuple[float, float | None]]] = {name: [] for name in landscapes}
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        for name, study in studies.items():
            if sum(one.cost for one in tried[name]) >= MOST:
                continue
            others = [other for other in studies.values() if other is not study]
            trial = study.ask(partial(to_repeat, study, others))
            if trial is None:
                continue
            one, curve = landscapes[name], landscapes[name].curve(trial.overrides)
            seen, cost = None, float(each)
            if rung is not None and trial.reference is None:
                seen, known = one.seen(rung.kind, rung.at, curve, rng), signals[name]
                both = [(s, score) for s, score in known if score is not None]
                leads = sum(s > seen for s, _ in known) < len(known) / 3
                sure = len(both) >= rung.calibrate and (rung.always or trusted(both))
                if sure and not leads:
                    known.append((seen, None))
                    study._study.tell(trial.trial, state=optuna.trial.TrialState.PRUNED)
                    tried[name].append(Tried(None, curve, None, rung.cost))
                    continue
                cost += rung.extra
            score = fmean(one.observed(curve, rng) for _ in range(each))
            if seen is not None:
                signals[name].append((seen, score))
            study.tell(trial.trial, score, {})
            tried[name].append(Tried(trial.reference, curve, score, cost))
    return tried


def _answer(
    landscape: Landscape, budget: int, few: Sequence[Tried], many: Sequence[Tried],
    confirm: tuple[int, int] | None, cautious: bool, rng: np.random.Generator,
) -> Answer:  # fmt: skip
    """Return what a budget gives, the trainings that confirm included.

    As raystt does it, nothing is proposed that could not be confirmed: where the budget is too
    small for it, the references alone are trained, once each.
    """
    top, seeds = confirm or (0, 0)
    trials = budget - ((top + 1) * seeds if confirm else 0)  # the paper's is trained anew too
    whole = few if trials <= proposals._SOBOL_ALONE else many
    spent = np.cumsum([one.cost for one in whole])
    afforded = whole[: int(np.searchsorted(spent, trials, "right"))]
    if all(one.reference is not None for one in afforded):
        once = whole[: int(np.searchsorted(spent, budget, "right"))]
        afforded = list(itertools.takewhile(lambda one: one.reference is not None, once))
    ranked = sorted(
        ((one.score, one) for one in afforded if one.score is not None), key=lambda p: -p[0]
    )
    dropped = len(ranked) < len(afforded)
    own = [(score, one) for score, one in ranked if one.reference is None][:top]
    if not own:  # nothing to confirm: none is asked for, or only references were afforded
        score, highest = ranked[0]
        return Answer(budget, highest.curve, score, dropped=dropped)

    def anew(one: Tried) -> Curve:
        """Return scores on fresh seeds, dev and test."""
        return np.transpose([landscape.trained(one.curve, rng) for _ in range(seeds)])

    paper = next(one for _, one in ranked if one.reference == BASELINE)
    fresh, held = [anew(one) for _, one in own], anew(paper)
    best = int(np.argmax([dev.mean() for dev, _ in fresh]))
    told = own[0][0] - float(fresh[0][0].mean())
    (dev, test), (paper_dev, paper_test) = fresh[best], held
    if cautious:
        # What `Metric.compare_runs` finds: seed by seed, Student's tails at Satterthwaite's degrees
        # of freedom. It is the only comparison, so Holm's method changes nothing.
        apart = test - paper_test
        of_seeds = apart.var(ddof=1) / seeds
        variance = of_seeds + 2 * landscape.noise.test**2 / seeds
        freedom = (seeds - 1) * (variance / of_seeds) ** 2
        chosen = apart.mean() > stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    else:
        chosen = dev.mean() > paper_dev.mean()
    if chosen:
        return Answer(budget, own[best][1].curve, float(test.mean()), told, dropped)
    return Answer(budget, paper.curve, float(paper_test.mean()), told, dropped)


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
    "raystt, the paper's unless another is shown to be better": raystt(cautious=True),
    "raystt, what leads": raystt(),
    "raystt, top 1, 3 seeds": raystt(confirm=(1, 3)),
    "raystt, top 2, 2 seeds": raystt(confirm=(2, 2)),
    "raystt, top 2, 3 seeds": raystt(confirm=(2, 3)),
    "raystt, top 4, 2 seeds": raystt(confirm=(4, 2)),
    "raystt without confirmation": raystt(confirm=None),
    "random": plain(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    "TPE of Optuna": plain(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "OptunaSearch + ASHA": _alone(asha),
    "raystt, a third promoted by 1/2 compressed": raystt(rung=Rung("compressed", 0.5)),
    "raystt, a third promoted by forks at 1/2": raystt(rung=Rung("fork", 0.5)),
    "raystt, always promoted by 1/2 compressed": raystt(rung=Rung("compressed", 0.5, always=True)),
    "raystt, always promoted by forks at 1/2": raystt(rung=Rung("fork", 0.5, always=True)),
    "raystt without references but the paper's": raystt(references=("paper",)),
    "PBT on the ratio": _alone(pbt),
    "Sobol": plain(_sobol),
    "raystt without transfer": raystt(transfer={"top": 0}),
    "raystt with Sobol alone": raystt(sampler="sobol"),
    "raystt, each trial on 2 seeds": raystt(each=2),
    "Optuna + median pruner": _alone(pruner),
    "raystt with GP": raystt(sampler="gp"),
    "raystt with near-duplicates": raystt(near=0.0),
    "raystt, always promoted by forks at 1/4": raystt(rung=Rung("fork", 0.25, always=True)),
    "raystt, a third promoted by forks at 1/4": raystt(rung=Rung("fork", 0.25)),
    "raystt, a third promoted by 1/4 compressed": raystt(rung=Rung("compressed", 0.25)),
}
"""What is compared, by name; what matters most comes first, for all of it takes hours."""


def needs(name: str) -> str | None:
    """Return the kind of early signal that a way looks at; None = none."""
    if "promoted" in name:
        return "fork" if "forks" in name else "compressed"
    return "trunk" if name.startswith(("Optuna", "PBT")) else None
