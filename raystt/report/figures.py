"""The figure of a search: every schedule tried, coloured by the score it got."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from raystt.config import OBJECTIVES, Objective
from raystt.ranking import best, latest
from raystt.results import Result
from raystt.schedule import AnySchedule

# Dark is good: the light end of the map would vanish on white, so it is cut off.
SCORE_COLOURS = ListedColormap(colormaps["YlGnBu"](np.linspace(0.3, 1.0, 256)), name="score")
BEST_COLOUR = "#d7301f"
DIVERGED_COLOUR = "#aaaaaa"
INK = "#222222"
REFERENCE_DASHES = {
    "none": (0, (1, 1.2)),
    "paper": (0, (5, 1.6)),
    "constant": (0, (5, 1.4, 1, 1.4)),
    "thirds": (0, (2, 1.2, 2, 3)),
}
# Of schedules that only ablations have; one that shares its reference's schedule has its line.
OTHER_DASHES = ((0, (3, 1.2)), (0, (6, 1.2, 1, 1.2, 1, 1.2)), (0, (8, 2)), (0, (2, 2.4)))
REFERENCE_LABELS = {"none": "no interleaving"}
GRID_POINTS = 1200
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "legend.fontsize": 8,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "raystt",  # the same results give the same file
}


def draw_schedules(
    results: Iterable[Result],
    directory: str | os.PathLike[str],
    *,
    split: str,
    objective: Objective = "asr_bleu",
    pairs: Mapping[str, int] | None = None,
    title: str = "",
) -> list[Path]:
    """Draw `schedules.png` and `schedules.svg`, one panel a language.

    Args:
        results: Lines of `results.jsonl`; trials that reached their horizon on `split` are drawn.
        directory: Where to write, made if it is missing.
        split: The split whose scores colour the lines.
        objective: The score.
        pairs: Training pairs a language, for the panels' titles; also fixes their order.
        title: Title of the figure, such as the search's name.

    Returns:
        The paths written, PNG first.
    """
    finished = [r for r in latest(results) if r.split == split]
    pairs = pairs or {}
    languages = [
        language
        for language in dict.fromkeys([*pairs, *(r.language for r in finished)])
        if any(r.language == language for r in finished)
    ]
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / "schedules.png", directory / "schedules.svg"]
    with rc_context(STYLE):
        columns = min(3, max(1, len(languages)))
        lines = -(-max(1, len(languages)) // columns)
        figure = Figure(figsize=(5.6 * columns, 4.6 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axis, language in zip(axes, languages, strict=False):
            mine = [r for r in finished if r.language == language]
            _panel(figure, axis, mine, split, objective)
            count = f" · {pairs[language]} training pairs" if language in pairs else ""
            axis.set_title(f"{language}{count}", fontweight="bold", loc="left")
        for axis in axes[len(languages) :]:
            axis.set_axis_off()
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.savefig(paths[0], dpi=160)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _panel(
    figure: Figure, axis: Axes, results: list[Result], split: str, objective: Objective
) -> None:
    """Draw one language: proposals by score, references dashed above them, the best on top."""
    winner = best(results, objective)
    proposals = [r for r in results if r.reference is None]
    scored = [r.value(objective) for r in proposals or results if r.status == "complete"]
    if winner is not None:
        scored.append(winner.value(objective))
    low, high = (min(scored), max(scored)) if scored else (0.0, 1.0)
    scale = Normalize(low, high if high > low else low + 1.0)
    # The better drawn later: good schedules must not hide under bad ones.
    for result in sorted(proposals, key=lambda r: r.value(objective)):
        diverged = result.status == "diverged"
        axis.plot(
            *_curve(result.schedule),
            color=DIVERGED_COLOUR if diverged else SCORE_COLOURS(scale(result.value(objective))),
            linewidth=1.2 if diverged else 1.7,
            linestyle=":" if diverged else "-",
            zorder=1 if diverged else 2,
        )
    drawn: dict[AnySchedule, Any] = {}  # dashes by schedule: equal curves are drawn once
    for result in (r for r in results if r.reference is not None and r is not winner):
        name = str(result.reference)
        score = "diverged" if result.status == "diverged" else f"{result.value(objective):.1f}"
        schedule = result.schedule
        again = schedule in drawn
        unnamed = sum(dashes in OTHER_DASHES for dashes in drawn.values())
        dashes = drawn.setdefault(
            schedule, REFERENCE_DASHES.get(name, OTHER_DASHES[unnamed % len(OTHER_DASHES)])
        )
        curve: tuple[Any, Any] = ([], []) if again else _curve(result.schedule)
        axis.plot(
            *curve,
            color=INK,
            linewidth=1.7,
            linestyle=dashes,
            label=f"{REFERENCE_LABELS.get(name, name)}: {score}",
            path_effects=_halo("white", 3.2),
            zorder=3,
        )
    if winner is not None:
        _emphasise(axis, winner, objective)
    if any(r.status == "diverged" for r in proposals):
        axis.plot([], [], color=DIVERGED_COLOUR, linestyle=":", linewidth=1.2, label="diverged")
    axis.set(xlim=(0, 1), ylim=(-0.03, 1.03), xlabel="training progress", ylabel="text ratio")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.label_outer()
    axis.grid(color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    # Ratios only fall: the upper right corner is the emptiest.
    axis.legend(
        loc="upper right", frameon=True, framealpha=0.85, edgecolor="none", handlelength=2.6
    ).set_zorder(5)
    bar = figure.colorbar(ScalarMappable(scale, SCORE_COLOURS), ax=axis, pad=0.02, aspect=32)
    bar.set_label(f"{OBJECTIVES[objective]}, {split}")
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(6))


def _emphasise(axis: Axes, winner: Result, objective: Objective) -> None:
    name = f" = {winner.reference}" if winner.reference else ""
    axis.plot(
        *_curve(winner.schedule),
        color=BEST_COLOUR,
        linewidth=2.8,
        label=f"best{name}: {winner.value(objective):.1f}, {winner.schedule.label()}",
        path_effects=_halo("white", 4.6),
        zorder=4,
    )


def _halo(colour: str, width: float) -> list[Any]:
    return [patheffects.Stroke(linewidth=width, foreground=colour), patheffects.Normal()]


def _curve(schedule: AnySchedule) -> tuple[np.ndarray, np.ndarray]:
    """Return progress and ratio, float64 [GRID_POINTS], of a schedule."""
    progress = np.linspace(0.0, 1.0, GRID_POINTS)
    return progress, np.array([schedule.ratio(p) for p in progress])
