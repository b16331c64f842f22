"""Results compared: the last of each evaluation, the highest score, the front, the table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from raystt.config.search import BASELINE, Objective
from raystt.results import REPORTED, Result

if TYPE_CHECKING:
    import pandas


def latest(results: Iterable[Result]) -> list[Result]:
    """Keep the last line of each evaluation, in order of first appearance.

    A driver killed between its line and the study's record evaluates once more on resume; the
    repeated line replaces the first.
    """
    return list({(r.language, r.trial, r.split): r for r in results}.values())


def ranked(results: Iterable[Result], objective: Objective) -> list[Result]:
    """Return the complete results, the highest score first, the earliest trial of equals."""
    complete = [r for r in results if r.status == "complete"]
    return sorted(complete, key=lambda r: (-r.value(objective), r.trial))


def best(results: Iterable[Result], objective: Objective) -> Result | None:
    """Return the complete result of the highest score, the earliest trial of equals."""
    return next(iter(ranked(results, objective)), None)


def pareto(results: Iterable[Result], objective: Objective) -> list[Result]:
    """Return the complete results that no other one beats in score and in time of training.

    The cheapest come first: steps at a high ratio are shorter, so schedules differ in what they
    cost.
    """
    front: list[Result] = []
    for one in sorted(ranked(results, objective), key=lambda r: r.train_seconds):
        if not front or one.value(objective) > front[-1].value(objective):
            front.append(one)
    return front


def dataframe(results: Iterable[Result], *, split: str, objective: Objective) -> pandas.DataFrame:
    """Return one row a trial: its own keys, its scores on `split`, and on any other split.

    Columns are the fields of `Result`, the overrides by their dotted keys, and for another split
    `<split>_asr_bleu`, `<split>_asr_bleu_low` and `<split>_asr_bleu_high`; `to_paper` is the
    `objective` minus that of the paper's schedule in the same language.
    """
    import pandas

    lines = latest(results)
    papers = {
        r.language: r.value(objective)
        for r in lines if r.split == split and r.reference == BASELINE
    }  # fmt: skip
    scored = defaultdict(list)
    for line in lines:
        scored[line.language, line.trial].append(line)
    rows = []
    for one in (r for r in lines if r.split == split):
        row = {**one.config(), "split": one.split, "status": one.status}
        row |= {name: getattr(one, name) for name in REPORTED if name not in row}
        row["signatures"] = json.dumps(row["signatures"])
        row["states"] = " ".join(one.states)
        paper = papers.get(one.language)
        row["to_paper"] = None if paper is None else one.value(objective) - paper
        for other in scored[one.language, one.trial]:
            if other.split != split:
                for name in ("asr_bleu", "asr_bleu_low", "asr_bleu_high"):
                    row[f"{other.split}_{name}"] = getattr(other, name)
        rows.append(row)
    return pandas.DataFrame(rows)
