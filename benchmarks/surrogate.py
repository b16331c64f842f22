"""A measured table of schedules as a surface: what any schedule would score, and how noisily.

`landscape.py` writes the table. Between its points a Gaussian process over the curves of the text
ratio stands in for training, so that a search can be replayed hundreds of times.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from landscape_tables import noise, of
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
        error: Root mean square error on schedules that were left out one at a time.
        explained: Share of the variance of their scores that was predicted (R2).
    """

    def __init__(self, curves: Curve, scores: Curve) -> None:
        kernel = ConstantKernel(1.0) * RBF([1.0] * _COMPONENTS, (0.05, 100.0)) + WhiteKernel(
            0.05, (1e-4, 1.0)
        )
        process = GaussianProcessRegressor(
            kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0
        )
        model = make_pipeline(PCA(_COMPONENTS, random_state=0), process)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            left_out = cross_val_predict(model, curves, scores, cv=LeaveOneOut())
            model.fit(curves, scores)
        self._model = model
        self._known: dict[bytes, float] = {}
        self.error = float(np.sqrt(((left_out - scores) ** 2).mean()))
        self.explained = float(1 - ((left_out - scores) ** 2).sum() / (scores.var() * len(scores)))

    def __call__(self, curve: Curve) -> float:
        """Return the score of a curve, at least 0."""
        key = curve.tobytes()
        if key not in self._known:
            self._known[key] = max(0.0, float(self._model.predict(curve[None])[0]))
        return self._known[key]

    def many(self, curves: Curve) -> Curve:
        """Return the scores of many curves, float64 `[schedules]`."""
        return np.maximum(0.0, self._model.predict(curves))


class Landscape:
    """What a language's schedules score: in full, after a part of the training, and by a fork.

    Args:
        search: The search that was measured.
        language: The language.
        rows: Scores of `landscape.py`, of all languages.

    Attributes:
        full: Surface of the score at the end of training.
        parts: Surface of each signal that was measured, by its kind and moment.
        noise: Standard deviation of a score over seeds, at the leading schedules.
        part_noise: Of each signal: what the surface does not explain of it.
    """

    def __init__(self, search: SearchConfig, language: str, rows: Sequence[Row]) -> None:
        self.search, self.language = search, language
        curves = {}
        for row in rows:
            if row["language"] == language and "overrides" in row:
                curve = curve_of(search, language, row["overrides"])
                if curve is not None:
                    curves[row["trial"]] = curve
        signals: dict[tuple[str, float], dict[int, list[tuple[int, float]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for row in rows:
            same = row["language"] == language and row["split"] == search.base.evaluation.split
            if same and row["trial"] in curves:
                place = signals[row["signal"], row["at"]][row["trial"]]
                place.append((row["seed"], row["asr_bleu"]))
        self.parts: dict[tuple[str, float], Surface] = {}
        self.part_noise: dict[tuple[str, float], float] = {}
        for (kind, at), found in signals.items():
            # What a trunk or a fork has seen of a schedule is its first part.
            seen = round(MOMENTS * at) if kind in ("trunk", "fork") else MOMENTS
            surface = Surface(
                np.array([curves[trial][:seen] for trial in found]),
                np.array([np.mean([score for _, score in scores]) for scores in found.values()]),
            )
            self.parts[kind, at], self.part_noise[kind, at] = surface, surface.error
        self.full = self.parts.pop(("full", 1.0))
        self.noise, _ = noise(of(rows, language, search.base.evaluation.split))

    def curve(self, overrides: Mapping[str, Any]) -> Curve:
        """Return the curve of a trial of the space."""
        found = curve_of(self.search, self.language, overrides)
        assert found is not None, overrides
        return found

    def observed(self, curve: Curve, rng: np.random.Generator) -> float:
        """Return what one training of a curve would score."""
        return max(0.0, self.full(curve) + rng.normal(0.0, self.noise))

    def seen(self, kind: str, at: float, curve: Curve, rng: np.random.Generator) -> float:
        """Return what a signal would show of a curve."""
        part = curve[: round(MOMENTS * at)] if kind in ("trunk", "fork") else curve
        return max(0.0, self.parts[kind, at](part) + rng.normal(0.0, self.part_noise[kind, at]))


def read_table(path: Path) -> list[Row]:
    """Read the scores of a result file of `landscape.py`."""
    record = json.loads(path.read_text(encoding="utf-8"))
    (scores,) = (part["scores"] for part in record["results"] if "scores" in part)
    return list(scores)
