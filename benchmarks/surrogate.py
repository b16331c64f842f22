"""A measured table of schedules as a surface: what any schedule would score, and how noisily.

`landscape.py` writes the table. Between its points a Gaussian process over the curves of the text
ratio stands in for training, so that a search can be replayed hundreds of times. Seeds scatter as
those of the table do, and an early signal ranks schedules as well as it was measured to.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from landscape_tables import of
from scipy import optimize, stats
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline

from raystt.config import SearchConfig

MOMENTS = 40
"""Moments of the training at which a curve is looked at."""
_COMPONENTS = 3  # of the curves; more of them predict left-out schedules worse
_SPEAKS = 8.0  # what scores less than this is near the floor, where seeds differ by nothing
_DEGREES = (3, 4, 5, 6, 8, 10, 15, 30)
_DRAWS = 2000  # of which the rank correlation of a signal is the mean

Curve = npt.NDArray[np.float64]
Row = Mapping[str, Any]


def curve_of(search: SearchConfig, language: str, overrides: Mapping[str, Any]) -> Curve | None:
    """Return the ratio at each moment, float64 `[MOMENTS]`; None where one side alone has text."""
    run = search.run_for(language, overrides)
    if run.interleaving.side != "both":
        return None
    source, target = (side.values(0, MOMENTS, MOMENTS) for side in run.schedule.sides())
    return source if np.array_equal(source, target) else None


class Surface:
    """Scores over curves, interpolated.

    Args:
        curves: float64 `[schedules, moments]`.
        scores: float64 `[schedules]`.

    Attributes:
        left_out: What is predicted of each schedule by all others, float64 `[schedules]`.
        error: Root mean square error of that.
        explained: Share of the variance of the scores that it explains (R2).
    """

    def __init__(self, curves: Curve, scores: Curve) -> None:
        kernel = ConstantKernel(1.0) * RBF([1.0] * _COMPONENTS, (0.05, 100.0)) + WhiteKernel(
            0.05, (1e-4, 1.0)
        )
        self._pca = PCA(_COMPONENTS, random_state=0)
        self._process = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0)
        model = make_pipeline(self._pca, self._process)
        self._mean, self._sd = float(scores.mean()), float(scores.std())
        standard = (scores - self._mean) / self._sd
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            predicted = cross_val_predict(model, curves, standard, cv=LeaveOneOut())
            model.fit(curves, standard)
        self._known: dict[bytes, float] = {}
        self.left_out: Curve = self._mean + self._sd * predicted
        self.error = float(np.sqrt(((self.left_out - scores) ** 2).mean()))
        self.explained = float(1 - (self.error / self._sd) ** 2)

    def __call__(self, curve: Curve) -> float:
        """Return the score of a curve, at least 0."""
        key = curve.tobytes()
        if key not in self._known:
            self._known[key] = float(self.many(curve[None])[0])
        return self._known[key]

    def many(self, curves: Curve) -> Curve:
        """Return the scores of many curves, float64 `[schedules]`."""
        # As `predict` does it, which checks its input for a hundred times as long.
        places = (curves - self._pca.mean_) @ self._pca.components_.T
        process = self._process
        standard = process.kernel_(places, process.X_train_) @ process.alpha_
        return np.maximum(0.0, self._mean + self._sd * standard)


@dataclass(frozen=True)
class Noise:
    """How the scores of one schedule scatter.

    Attributes:
        scale: Of Student's t, which a seed's deviation follows; dev and test of a model share it.
        degrees: Its degrees of freedom.
        dev: Standard deviation of what sentences add on dev.
        test: Standard deviation of what sentences add on test.
    """

    scale: float
    degrees: float
    dev: float
    test: float

    @property
    def seeds(self) -> float:
        """Standard deviation of a seed's deviation."""
        return self.scale * math.sqrt(self.degrees / (self.degrees - 2))

    @property
    def total(self) -> float:
        """Standard deviation of a score on dev."""
        return math.hypot(self.seeds, self.dev)

    def draw(self, rng: np.random.Generator, size: Any = None) -> tuple[Any, Any]:
        """Return the deviations of models on dev and on test."""
        seed = self.scale * rng.standard_t(self.degrees, size)
        return seed + self.dev * rng.normal(size=size), seed + self.test * rng.normal(size=size)

    def times(self, factor: float) -> Noise:
        """Return the same noise, larger."""
        return Noise(self.scale * factor, self.degrees, self.dev * factor, self.test * factor)


def fitted(
    predicted: Mapping[int, float], dev: Mapping[int, Mapping[int, float]],
    test: Mapping[int, Mapping[int, float]],
) -> Noise:  # fmt: skip
    """Estimate the noise of a table, heavy tails included, by maximum likelihood.

    Which schedules got further seeds was decided by the first one. The first score of *all*
    schedules is in the likelihood, so that this choice biases nothing: a schedule's own level is
    normal around what all others predict of it, its seeds follow Student's t around that level.
    What the prediction misses of a schedule with a single seed may count as noise: it is rather
    too much than too little. What of it is due to sentences is what dev and test of the fresh
    seeds do not share.

    Args:
        predicted: Score of each schedule, by all others.
        dev: Scores by schedule and seed.
        test: Likewise.
    """
    speaking = [(predicted[t], list(dev[t].values())) for t in predicted if predicted[t] > _SPEAKS]
    most = max(len(scores) for _, scores in speaking)
    scores = np.array([s + [np.nan] * (most - len(s)) for _, s in speaking])
    places = np.linspace(-4, 4, 81)
    weights = stats.norm.pdf(places) / stats.norm.pdf(places).sum()

    def loss(logs: Curve, degrees: float) -> float:
        scale, between = np.exp(logs)
        levels = np.array([p for p, _ in speaking])[:, None] + between * places
        each = stats.t.logpdf((scores[:, :, None] - levels[:, None]) / scale, degrees)
        whole = np.nansum(each - math.log(scale), axis=1)
        return -float(np.log(np.exp(whole) @ weights + 1e-300).sum())

    fits = [
        (found.fun, degrees, float(np.exp(found.x[0])))
        for degrees in _DEGREES
        for found in [optimize.minimize(loss, [0.5, 0.5], args=(degrees,), method="Nelder-Mead")]
    ]
    _, degrees, scale = min(fits)
    fresh = [
        np.cov(np.array([(dev[t][s], test[t][s]) for s in seeds]).T)
        for t in predicted if len(seeds := list(dev[t])[1:]) > 1
    ]  # fmt: skip
    (of_dev, shared), (_, of_test) = np.mean(fresh, axis=0)
    on_dev, on_test = (math.sqrt(max(0.0, float(own - shared))) for own in (of_dev, of_test))
    alone = math.sqrt(scale**2 - on_dev**2 * (degrees - 2) / degrees)
    return Noise(alone, degrees, on_dev, on_test)


@dataclass(frozen=True)
class Signal:
    """An early signal: the surface of full scores, scaled, and noise that ranks it as measured.

    Attributes:
        measured: Spearman's rho with the full score of one seed, that it is to have.
        replayed: What it has in the replay, over the schedules it was measured on.
        mean: Of the signal.
        sd: Its standard deviation.
        share: Correlation with the surface; the rest is noise.
        centre: Mean of the surface over these schedules.
        spread: Its standard deviation.
    """

    measured: float
    replayed: float
    mean: float
    sd: float
    share: float
    centre: float
    spread: float

    def of(self, full: Any, noise: Any) -> Any:
        """Return the signal for what the surface says, and standard normal noise."""
        return _signal(self, full, noise, self.share)


def _signal(of: Any, full: Any, noise: Any, share: float) -> Any:
    standard = share * (full - of.centre) / of.spread + math.sqrt(1 - share**2) * noise
    return np.maximum(0.0, of.mean + of.sd * standard)


def calibrated(full: Curve, seen: Curve, noise: Noise, rho: float) -> Signal:
    """Return a signal whose rank correlation with the full score, noisy as it is, is as measured.

    Args:
        full: What the surface says of the schedules that were measured.
        seen: Their signals, of which mean and spread are taken.
        noise: Of a full score.
        rho: Spearman's rho that was measured.
    """
    rng = np.random.default_rng(0)
    shape = (_DRAWS, len(full))
    scores, drawn = np.maximum(0.0, full + noise.draw(rng, shape)[0]), rng.normal(size=shape)
    ranks = _standard_ranks(scores)
    parts = (float(seen.mean()), float(seen.std(ddof=1)))
    begun = Signal(rho, 0.0, *parts, 0.0, float(full.mean()), float(full.std(ddof=1)))

    def replayed(share: float) -> float:
        return float((ranks * _standard_ranks(_signal(begun, full, drawn, share))).mean())

    low, high = -1.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        low, high = (share, high) if replayed(share) < rho else (low, share)
    return Signal(rho, replayed(share), *parts, share, begun.centre, begun.spread)


def _standard_ranks(values: Curve) -> Curve:
    ranks = stats.rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    return np.asarray(ranks / np.maximum(ranks.std(axis=1, keepdims=True), 1e-9))


class Landscape:
    """What a language's schedules score: in full, and early.

    Args:
        search: The search that was measured.
        language: The language.
        rows: Scores of `landscape.py`, of all languages.
        measured: What it says of each signal.
        factor: By which seeds differ more than those of the table.
        rho: Key of `measured` that a signal is to have: "spearman", or an end of its interval,
            "low" or "high".

    Attributes:
        full: Surface of the score at the end of training.
        noise: Of such a score.
        signals: Early signals, by kind and moment.
    """

    def __init__(
        self, search: SearchConfig, language: str, rows: Sequence[Row], measured: Sequence[Row],
        *, factor: float = 1.0, rho: str = "spearman",
    ) -> None:  # fmt: skip
        self.search, self.language = search, language
        split, report = search.base.evaluation.split, search.base.evaluation.report_split
        curves: dict[int, Curve] = {}
        dev: dict[int, dict[int, float]] = defaultdict(dict)
        test: dict[int, dict[int, float]] = defaultdict(dict)
        for row in of(rows, language, split):
            curve = curve_of(search, language, row["overrides"])
            if curve is not None:
                curves[row["trial"]] = curve
                dev[row["trial"]][row["seed"]] = row["asr_bleu"]
        for row in of(rows, language, report):
            test[row["trial"]][row["seed"]] = row["asr_bleu"]
        self.full = Surface(
            np.array(list(curves.values())),
            np.array([np.mean(list(dev[trial].values())) for trial in curves]),
        )
        predicted = dict(zip(curves, self.full.left_out, strict=True))
        self.noise = fitted(predicted, dev, test).times(factor)
        self.signals: dict[tuple[str, float], Signal] = {}
        for one in measured:
            if one["language"] == language:
                place = one["signal"], one["at"]
                seen = {
                    row["trial"]: row["asr_bleu"] for row in rows
                    if (row["language"], row["signal"], row["at"]) == (language, *place)
                }  # fmt: skip
                self.signals[place] = calibrated(
                    self.full.many(np.array([curves[trial] for trial in seen])),
                    np.array(list(seen.values())), self.noise, one[rho],
                )  # fmt: skip

    def curve(self, overrides: Mapping[str, Any]) -> Curve:
        """Return the curve of a trial of the space, or of a reference."""
        found = curve_of(self.search, self.language, overrides)
        assert found is not None, overrides
        return found

    def trained(self, curve: Curve, rng: np.random.Generator) -> tuple[float, float]:
        """Return what one training of a curve would score on dev and on test."""
        true, (dev, test) = self.full(curve), self.noise.draw(rng)
        return max(0.0, true + dev), max(0.0, true + test)

    def observed(self, curve: Curve, rng: np.random.Generator) -> float:
        """Return what one training of a curve would score on dev."""
        return self.trained(curve, rng)[0]

    def seen(self, kind: str, at: float, curve: Curve, rng: np.random.Generator) -> float:
        """Return what a signal would show of a curve."""
        return float(self.signals[kind, at].of(self.full(curve), rng.normal()))


def read_table(path: Path) -> tuple[list[Row], list[Row]]:
    """Read a result file of `landscape.py`: scores, and what it says of the signals."""
    record = json.loads(path.read_text(encoding="utf-8"))
    parts = {name: list(part[name]) for part in record["results"] for name in part}
    return parts["scores"], parts.get("signals", [])
