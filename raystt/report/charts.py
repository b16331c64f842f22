"""The charts of a search: Altair specifications, for the page and for PNG files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
from altair.utils.schemapi import debug_mode

from raystt.config import BASELINE, OBJECTIVES, Objective
from raystt.ranking import pareto
from raystt.results import Result
from raystt.schedule import Schedule

Drawing = alt.Chart | alt.LayerChart | alt.FacetChart

BEST, REFERENCE, DIVERGED = "#d7301f", "#7a7a7a", "#b0b0b0"
_PROGRESS = np.linspace(0.0, 1.0, 121)
_DASHES = [[1, 2], [5, 2], [5, 2, 1, 2], [2, 2, 2, 6], [8, 3], [3, 2], [6, 2, 1, 2, 1, 2], [10, 2]]
_HEIGHT = 260


@dataclass(frozen=True)
class Curve:
    """What the log of a trial's training says, a step each row.

    Attributes:
        steps: int64 `[rows]`.
        loss: float64 `[rows]`, nats a predicted token.
        achieved: float64 `[rows]`, share of the words that were text.
        tokens: int64 `[rows]`, trained on until then.
    """

    steps: np.ndarray
    loss: np.ndarray
    achieved: np.ndarray
    tokens: np.ndarray


def schedules(
    results: Sequence[Result],
    curves: Mapping[int, Curve],
    best: int | None,
    references: Sequence[str],
    scale: Scale,
) -> Drawing:
    """Draw every schedule of a language, coloured by its score.

    Args:
        results: Finished trials of a language, one at least.
        curves: Their logs, by trial: what share of the words the best and the fixed runs reached.
        best: Number of the best trial.
        references: Names of the references, which are dashed.
        scale: Of the scores.
    """
    proposals = [r for r in results if r.reference not in references and r.trial != best]
    # Of its own name: Altair warns of equal ones side by side.
    name = re.sub(r"\W", "_", f"hover_{results[0].language}")
    hover = alt.selection_point(name=name, on="pointerover", fields=["trial"], empty=False)
    layers: list[alt.Chart] = []
    if proposals:
        layers.append(_lines(proposals, scale).encode(
            color=scale.colour, opacity=alt.condition(hover, alt.value(1.0), alt.value(0.75)),
            strokeWidth=alt.condition(hover, alt.value(4.0), alt.value(1.5)),
        ).add_params(hover))  # fmt: skip
    fixed = [r for r in results if r.reference in references and r.trial != best]
    if fixed:
        names = list(references)  # of one order, so that a language's dashes are another's
        dashes = [_DASHES[n % len(_DASHES)] for n in range(len(names))]
        layers.append(
            _lines(fixed, scale).encode(
                color=alt.value(REFERENCE), strokeWidth=alt.value(2),
                strokeDash=alt.StrokeDash(
                    "name:N", title="references", sort=names,
                    scale=alt.Scale(domain=names, range=dashes),
                    legend=alt.Legend(orient="top", columns=4, symbolSize=200),
                ),
            )
        )  # fmt: skip
    winner = [r for r in results if r.trial == best]
    if winner:
        line = _lines(winner, scale)
        layers.append(line.encode(color=alt.value(BEST), strokeWidth=alt.value(3.5)))
    reached = [
        {"progress": float(step) / r.steps, "ratio": float(share), "trial": r.label,
         "name": f"{r.reference or 'best'}, achieved"}
        for r in results if r.trial in curves and (r.trial == best or r.reference == BASELINE)
        for step, share in zip(curves[r.trial].steps, curves[r.trial].achieved, strict=True)
    ]  # fmt: skip
    if reached:
        points = alt.Chart(_data(reached)).mark_point(size=22, strokeWidth=1)
        layers.append(points.encode(
            x="progress:Q", y="ratio:Q", tooltip=["name:N", alt.Tooltip("ratio:Q", format=".2f")],
            color=alt.condition(f"datum.name === '{BASELINE}, achieved'", alt.value(REFERENCE),
                                alt.value(BEST)),
        ))  # fmt: skip
    return alt.layer(*layers).properties(height=_HEIGHT)


def learning(
    results: Sequence[Result], curves: Mapping[int, Curve], field: str, title: str, scale: Scale
) -> Drawing:
    """Draw a column of the trials' logs over the steps, coloured by score."""
    rows = [
        {"trial": r.label, "step": int(curve.steps[n]), "value": float(getattr(curve, field)[n])}
        for r in results if (curve := curves.get(r.trial)) is not None
        for n in range(len(curve.steps)) if np.isfinite(getattr(curve, field)[n])
    ]  # fmt: skip
    lines = (
        scale.named(rows, results).mark_line(strokeWidth=1.2, opacity=0.8).encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=field != "loss")),
            detail="trial:N", color=scale.plain,
            tooltip=[*_TOOLTIP, alt.Tooltip("value:Q", title=title, format=".4~g")],
        )
    )  # fmt: skip
    return alt.layer(lines).properties(height=200)


def history(results: Sequence[Result], fresh: Mapping[int, float], scale: Scale) -> Drawing:
    """Draw score over trials, the best so far, and what was found on fresh seeds.

    Args:
        results: Finished trials of a language.
        fresh: Mean over fresh seeds on the same split, by trial.
        scale: Of the scores.
    """
    done = sorted((r for r in results if r.status == "complete"), key=lambda r: r.trial)
    best = itertools.accumulate((r.value(scale.objective) for r in done), max)
    rows = [{**scale.of(r), "number": r.trial, "best": b}
            for r, b in zip(done, best, strict=True)]  # fmt: skip
    base = alt.Chart(_data(rows)).encode(x=alt.X("number:Q", title="trial"))
    bars = base.mark_rule(color=DIVERGED, opacity=0.6).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(filled=True, size=45).encode(
        y=scale.axis, color=scale.plain, tooltip=[*_TOOLTIP, "name:N"],
        shape=alt.condition("datum.name === 'proposed'", alt.value("circle"), alt.value("square")),
    )  # fmt: skip
    running = base.mark_line(interpolate="step-after", color=BEST, strokeDash=[4, 2]).encode(
        y="best:Q"
    )
    layers = [bars, running, points]
    again = [
        {"number": r.trial, "trial": r.label, "score": fresh[r.trial],
         "was": r.value(scale.objective)}
        for r in done if r.trial in fresh
    ]  # fmt: skip
    if again:
        anew = alt.Chart(_data(again)).encode(x="number:Q", y="score:Q")
        layers.append(anew.mark_rule(color=BEST).encode(y2="was:Q"))
        layers.append(anew.mark_point(filled=True, size=80, shape="diamond", color=BEST).encode(
            tooltip=["trial:N", alt.Tooltip("score:Q", title="on fresh seeds", format=".1f")],
        ))  # fmt: skip
    return alt.layer(*layers).properties(height=_HEIGHT)


def response(results: Sequence[Result], scale: Scale) -> Drawing:
    """Draw the score by the ratio at the start and the share after which no text is left."""
    rows = [
        {**scale.of(r), "initial": schedule.ratio(0.0), "end": _end(schedule)}
        for r in results if r.status == "complete"
        for schedule in [r.schedule.sides()[1]]
    ]  # fmt: skip
    return (
        alt.Chart(_data(rows)).mark_circle(size=130, opacity=0.9).encode(
            x=alt.X("end:Q", title="share of the training after which no text is left",
                    scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
            y=alt.Y("initial:Q", title="ratio at the start", scale=alt.Scale(domain=[0, 1.05])),
            color=scale.plain, tooltip=_TOOLTIP,
        ).properties(height=_HEIGHT)
    )  # fmt: skip


def cost(results: Sequence[Result], workers: int, scale: Scale) -> Drawing:
    """Draw score against the device-seconds of the training, and the front."""
    done = [r for r in results if r.status == "complete"]
    front = {r.trial for r in pareto(done, scale.objective)}
    rows = [{**scale.of(r), "seconds": r.train_seconds * workers, "front": r.trial in front}
            for r in done]  # fmt: skip
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("seconds:Q", title="device-seconds", scale=alt.Scale(zero=False)), y=scale.axis
    )
    points = base.mark_circle(size=70).encode(
        color=scale.plain, tooltip=[*_TOOLTIP, alt.Tooltip("seconds:Q", format=".0f")]
    )
    line = base.transform_filter("datum.front").mark_line(
        interpolate="step-after", color=BEST, strokeDash=[4, 2]
    )
    return alt.layer(line, points).properties(height=_HEIGHT)


def importances(found: Mapping[str, float]) -> Drawing:
    """Draw the share of the variance of the scores that each key explains."""
    rows = [{"key": key, "importance": float(value)} for key, value in found.items()]
    return (
        alt.Chart(_data(rows)).mark_bar(color=REFERENCE).encode(
            x=alt.X("importance:Q", title="importance, PED-ANOVA"),
            y=alt.Y("key:N", sort="-x", title=None, axis=alt.Axis(labelLimit=220)),
            tooltip=["key:N", alt.Tooltip("importance:Q", format=".2f")],
        ).properties(height=24 * len(rows))
    )  # fmt: skip


def languages(results: Sequence[Result], scale: Scale) -> Drawing | None:
    """Draw what the same schedule scores in each language; None where none has two."""
    groups: dict[str, list[Result]] = {}  # one that is the same run in all that it sets
    for r in results:
        if r.status == "complete":
            groups.setdefault(repr(sorted(r.overrides.items())), []).append(r)
    rows = [
        {"language": r.language, "score": r.value(scale.objective), "run": run,
         "name": r.reference or r.schedule.label()}
        for run, group in groups.items() if len({r.language for r in group}) > 1 for r in group
    ]  # fmt: skip
    if not rows:
        return None
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("language:N", title=None, axis=alt.Axis(labelAngle=0)), y=scale.axis,
        detail="run:N", tooltip=["name:N", "language:N", alt.Tooltip("score:Q", format=".1f")],
    )  # fmt: skip
    return alt.layer(
        base.mark_line(opacity=0.5, color=REFERENCE), base.mark_circle(size=60, color=REFERENCE)
    ).properties(height=_HEIGHT)


def specification(chart: Drawing | alt.ConcatChart) -> dict[str, Any]:
    """Return what Vega-Lite draws; charts were checked as they were made."""
    found: dict[str, Any] = chart.to_dict(validate=False)
    return found


class Scale:
    """Scores on one scale for the whole page.

    Args:
        results: All finished trials.
        objective: The score.
        split: Where it was measured.
    """

    def __init__(self, results: Sequence[Result], objective: Objective, split: str) -> None:
        self.objective = objective
        scores = [r.value(objective) for r in results if r.status == "complete"] or [0.0, 1.0]
        title = f"{OBJECTIVES[objective]}, {split}"
        colour = alt.Color(
            "score:Q", title=title,
            scale=alt.Scale(scheme="viridis", domain=[min(scores), max(scores)]),
            legend=alt.Legend(orient="bottom", gradientLength=120),
        )  # fmt: skip
        diverged = "datum.status === 'diverged'"
        self.colour = alt.condition(diverged, alt.value(DIVERGED), colour)
        # One legend is enough.
        self.plain = alt.condition(diverged, alt.value(DIVERGED), colour.legend(None))
        self.axis = alt.Y("score:Q", title=title)

    def of(self, one: Result) -> dict[str, Any]:
        """Return what a tooltip says of a trial."""
        whole = self.objective == "asr_bleu"
        low, high = one.ci if whole else (None, None)
        return {
            "trial": one.label, "schedule": one.schedule.label(),
            "score": one.value(self.objective), "low": low, "high": high,
            "interval": f"{low:.1f} to {high:.1f}" if whole else "",
            "name": one.reference or "proposed", "status": one.status,
        }  # fmt: skip

    def named(self, rows: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> alt.Chart:
        """Return a chart of points of trials, each trial's own values kept once."""
        own = alt.LookupData(_data(self.of(r) for r in results), "trial", list(_OWN))
        return alt.Chart(_data(rows)).transform_lookup("trial", own)


_OWN = ("schedule", "score", "low", "high", "interval", "name", "status")
_TOOLTIP = [
    alt.Tooltip("trial:N"), alt.Tooltip("schedule:N"), alt.Tooltip("score:Q", format=".1f"),
    alt.Tooltip("interval:N"), alt.Tooltip("status:N"),
]  # fmt: skip


def _curves(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the points at which schedules bend; where the sides differ, of both."""
    return [
        {"trial": r.label, "line": f"{r.label} {side}", "progress": p, "ratio": ratio}
        for r in results
        for side, schedule in enumerate(dict.fromkeys(r.schedule.sides()))
        for p, ratio in _bends(schedule)
    ]


def _bends(schedule: Schedule) -> list[tuple[float, float]]:
    """Return a curve without the points on a straight line between their neighbours."""
    ratios = np.array([schedule.ratio(float(p)) for p in _PROGRESS])
    straight = np.abs(np.diff(ratios, 2)) < 1e-9
    kept = np.concatenate([[True], ~straight, [True]])
    return [
        (round(float(p), 4), round(float(ratio), 4))
        for p, ratio in zip(_PROGRESS[kept], ratios[kept], strict=True)
    ]


def _lines(results: Sequence[Result], scale: Scale) -> alt.Chart:
    return (
        scale.named(_curves(results), results).mark_line().encode(
            x=alt.X("progress:Q", title="training", axis=alt.Axis(format="%"),
                    scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("ratio:Q", title="text ratio", scale=alt.Scale(domain=[0, 1.02])),
            detail="line:N", tooltip=_TOOLTIP,
        )
    )  # fmt: skip


def _end(schedule: Schedule) -> float:
    """Return the progress after which a schedule gives no text."""
    text = [p for p in _PROGRESS if schedule.ratio(float(p)) > 0.005]
    return float(text[-1]) if text else 0.0


def _data(rows: Iterable[Mapping[str, Any]]) -> alt.Data:
    # Altair would hold each row against its schema, which takes seconds and finds nothing.
    with debug_mode(False):
        return alt.Data(values=list(rows))
