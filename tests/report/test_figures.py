"""The figure of the schedules tried, drawn from results that look like a real search's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest

from raystt.report.figures import draw_schedules
from raystt.results import Result
from raystt.schedule import Schedule, from_dict

PAIRS = {"es": 300, "fr": 1000}


def result(
    language: str, trial: int, schedule: dict[str, Any] | Schedule, score: float, **more: Any
) -> Result:
    given = from_dict(schedule) if isinstance(schedule, dict) else schedule
    return made.result(trial, score, language=language, schedule=given, **more)


def made_up_search() -> list[Result]:
    """Return two studies of ten proposals behind three references; one run diverged."""
    random = np.random.default_rng(3)
    paper = {"shape": "staircase", "initial": 0.9, "final": 0.0, "hold": 0.0, "end": 0.8}
    lines = []
    for language, low in (("es", 14.0), ("fr", 24.0)):
        lines += [
            result(language, 0, {"shape": "constant", "initial": 0.0}, low, reference="none"),
            result(language, 1, paper, low + 19, reference="paper"),
            result(
                language, 2, {"shape": "constant", "initial": 0.3}, low + 3, reference="constant"
            ),
        ]
        shapes = ["linear", "cosine", "exponential", "polynomial", "sigmoid", "staircase"]
        for trial in range(3, 13):
            end = round(float(random.uniform(0.3, 1.0)), 2)
            initial = round(float(random.uniform(0.4, 1.0)), 1)
            schedule = {"shape": shapes[trial % 6], "initial": initial, "final": 0.0, "end": end}
            score = low + 26 * initial * (1 - (end - 0.8) ** 2) + float(random.normal(0, 1.5))
            lines.append(result(language, trial, schedule, score))
    lines[5] = made.diverged(5, schedule=lines[5].schedule)
    return lines


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    png, svg = draw_schedules(
        made_up_search(), tmp_path / "report", split="dev", pairs=PAIRS, title="made up"
    )
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 20_000
    text = svg.read_text()
    assert text.startswith("<?xml") and text.rstrip().endswith("</svg>")


def test_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    first = draw_schedules(made_up_search(), tmp_path / "a", split="dev", pairs=PAIRS)
    second = draw_schedules(made_up_search(), tmp_path / "b", split="dev", pairs=PAIRS)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_search_that_has_just_begun_is_drawn(tmp_path: Path, kept: int) -> None:
    paths = draw_schedules(made_up_search()[:kept], tmp_path, split="dev")
    assert all(path.exists() for path in paths)


def test_a_reference_may_be_the_best(tmp_path: Path) -> None:
    lines = [r for r in made_up_search() if r.reference]
    svg = draw_schedules(lines, tmp_path, split="dev")[1].read_text("utf-8")
    for language in PAIRS:
        winner = max((r for r in lines if r.language == language), key=lambda r: r.asr_bleu)
        assert f"best = {winner.reference}: {winner.asr_bleu:.1f}" in svg


def test_only_finished_trials_of_the_split_count(tmp_path: Path) -> None:
    lines = made_up_search()
    other = [
        result("de", 0, lines[1].schedule, 99.0, split="test"),
    ]
    first = draw_schedules(lines, tmp_path / "a", split="dev")
    second = draw_schedules([*lines, *other], tmp_path / "b", split="dev")
    assert first[0].read_bytes() == second[0].read_bytes()


def test_runs_of_one_schedule_share_a_line(tmp_path: Path) -> None:
    """An ablation is drawn with its reference's dashes; the legend has both scores."""
    paper = next(r for r in made_up_search() if r.reference == "paper")
    mask = replace(paper, reference="mask", trial=90, asr_bleu=1.5)
    svg = draw_schedules([*made_up_search(), mask], tmp_path, split="dev")[1].read_text("utf-8")
    assert "mask: 1.5" in svg  # text is drawn as outlines, with the words in a comment
