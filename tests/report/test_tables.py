"""The tables of a search: what fits a terminal, what stands beside a score, what it is worth."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
from made import SIGNATURE, diverged, result
from rich.console import Console

from raystt import schedule as schedules
from raystt.evaluation.jobs import Ceiling
from raystt.report.markdown import markdown
from raystt.report.terminal import short_label, terminal
from raystt.scores import Score
from raystt.searching.fresh import Difference, Fresh
from raystt.searching.neighbours import Certificate, Neighbour
from raystt.searching.summary import LanguageSummary, Line, Summary


def line(
    asr_bleu: float, trial: int, *, test: float | None = None, fresh: Fresh | None = None,
    **changes: Any,
) -> Line:  # fmt: skip
    """A run with intervals of 2 to both sides on dev, and of 5 on test."""
    bounds = {"asr_bleu_low": asr_bleu - 2, "asr_bleu_high": asr_bleu + 2}
    on_test = None if test is None else result(trial, test, split="test", **changes)
    return Line(result(trial, asr_bleu, **(bounds | changes)), on_test, fresh)


def summary(**changes: Any) -> Summary:
    """A search of one language, whose values or whose own are changed."""
    best = changes.pop("best", line(40.0, 3))
    fields = {field.name for field in dataclasses.fields(LanguageSummary)}
    values: dict[str, Any] = {
        "language": "es", "pairs": 300, "signature": SIGNATURE, "references": {}, "best": best,
        "results": (best.result,), "answer": None, "certificate": None, "pareto": (),
        "ceilings": {},
    }  # fmt: skip
    values |= {name: changes.pop(name) for name in fields & changes.keys()}
    return Summary(**{
        "name": "toy", "objective": "asr_bleu", "split": "dev", "report_split": None, "workers": 1,
        "wall_s": 60.0, "overhead_s": 0.1, "languages": (LanguageSummary(**values),), **changes,
    })  # fmt: skip


def ceiling(resynthesis: float, audio: float, signature: str = SIGNATURE) -> dict[str, Ceiling]:
    """What reference speech scores on dev, with intervals of 1 to both sides."""
    scores = [Score(score, (score - 1, score + 1), signature, 64) for score in (audio, resynthesis)]
    return {"dev": Ceiling("dev", *scores)}


def shown(content: Summary, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(terminal(content))
    return console.export_text()


WIDEST = {"initial": 0.8634, "final": 0.0, "hold": 0.0, "end": 0.97812}


@pytest.mark.parametrize("shape", sorted(schedules.SHAPES))
@pytest.mark.parametrize(("hold", "name"), [(0.0, "constant"), (0.1234, "no_alignment")])
def test_nothing_is_cut_at_80_columns(shape: str, hold: float, name: str) -> None:
    fall = schedules.SHAPES[shape](**{**WIDEST, "hold": hold})
    content = summary(
        pairs=10_000,
        report_split="test",
        references={
            "none": line(11.1, 0, reference="none", schedule=fall, test=41.0),
            name: line(22.2, 1, reference=name, schedule=fall, test=41.0),
        },
        best=line(44.6, 12, schedule=fall, test=41.0, chrf=60.0, utmos=4.0),
    )
    text = shown(content)
    assert "…" not in text and "..." not in text
    for part in ("es, 10000", name, "best, #12", "22.2 [20.2, 24.2]",
                 "44.6 [42.6, 46.6]", "41.0 [36.0, 46.0]"):  # fmt: skip
        assert part in text
    label = short_label(fall)
    assert label in text or all(part in text for part in label.split())
    if hold == 0.0:
        assert label in text, "what has no hold needs no second line"
    assert SIGNATURE not in text


@pytest.mark.parametrize(
    ("schedule", "label"),
    [
        (schedules.Staircase(), "stair 0.9→0 @0.8"),
        (schedules.Linear(initial=0.8634, end=0.5), "lin 0.86→0 @0.5"),
        (schedules.Polynomial(hold=0.1, power=2.134), "poly^2.1 0.9→0 @0.1-0.8"),
        (schedules.Constant(initial=0.3), "const 0.3"),
    ],
)
def test_short_labels(schedule: schedules.Schedule, label: str) -> None:
    assert short_label(schedule) == label


def test_all_trials_are_listed_by_score_with_the_difference_to_the_papers_schedule() -> None:
    trials = (
        result(0, 12.5), result(1, 20.0, reference="paper"), result(3, 40.0), diverged(2),
    )  # fmt: skip
    paper = line(20.0, 1, reference="paper")
    content = summary(references={"paper": paper}, results=trials)
    text = markdown(content)
    listed = [text.split(" | ")[1:] for text in text.splitlines() if " | #" in text]
    assert [(cells[0], cells[1], cells[-1].rstrip(" |")) for cells in listed] == [
        ("#3", "", "+20.0"), ("#1", "paper", "+0.0"), ("#0", "", "-7.5"), ("#2", "", "-"),
    ]  # fmt: skip
    assert "40.0 [35.0, 45.0]" in listed[0] and "diverged" in listed[3]
    assert "+20.0" in shown(content) and "vs paper" in text


def test_without_the_papers_schedule_there_is_no_difference() -> None:
    text = markdown(summary(results=(result(3, 40.0),)))
    assert "40.0 [35.0, 45.0] | - |" in text


@pytest.mark.parametrize(
    ("none", "resynthesis", "reasons"),
    [
        (30.0, 80.0, []),
        (37.0, 80.0, ["no interleaving"]),
        (30.0, 40.0, ["40.0", "90.0"]),
        (37.0, 40.0, ["no interleaving", "40.0"]),
    ],
)
def test_a_best_at_the_floor_is_told(none: float, resynthesis: float, reasons: list[str]) -> None:
    content = summary(
        references={"none": line(none, 0, reference="none")}, ceilings=ceiling(resynthesis, 90.0)
    )
    for text in (markdown(content), " ".join(shown(content).split())):
        told = [part for part in text.split(".\n") if "at the floor" in part]
        assert bool(told) == bool(reasons)
        for reason in reasons:
            assert reason in told[0].partition("at the floor")[2]


def test_metrics_that_a_run_has_get_a_column() -> None:
    content = summary(
        references={"none": line(20.0, 0, chrf=41.26, utmos=4.214)}, best=line(40.0, 3, chrf=60.0)
    )
    text = markdown(content)
    assert "| pairs | run | schedule | ASR-BLEU, dev | vs paper | chrF | UTMOS |" in text
    assert "20.0 [18.0, 22.0] | - | 41.3 | 4.21 |" in text
    assert "**40.0 [38.0, 42.0]** | **-** | **60.0** | **-** |" in text
    nothing = dataclasses.replace(content.languages[0], language="fr", best=None, results=())
    content = dataclasses.replace(content, languages=(*content.languages, nothing))
    text = markdown(content)
    assert "no finished trial | - | - | - |" in text
    first = text.partition("## All trials")[0]
    assert {row.count(" | ") for row in first.splitlines() if row[:4] in ("| es", "| fr")} == {6}
    assert "no finished trial" in shown(content)


def test_without_metrics_there_is_no_column() -> None:
    text = markdown(summary())
    assert "| pairs | run | schedule | ASR-BLEU, dev | vs paper |\n" in text
    assert "chrF" not in text and "Ceiling" not in text


def test_the_ceiling_stands_in_the_file() -> None:
    told = (
        "Ceiling of es on dev, reference speech: "
        "resynthesis 93.0 [92.0, 94.0], audio 97.0 [96.0, 98.0]."
    )
    assert told in markdown(summary(ceilings=ceiling(93.04, 97.0)))
    other = markdown(summary(ceilings=ceiling(93.04, 97.0, signature="x")))
    assert f"{told} It was scored in another way, and does not compare: x" in other


def test_scores_by_another_objective_are_named() -> None:
    fresh = Fresh(50.0, (45.0, 55.0), (2, 3), 49.0, 0)
    best = line(40.0, 3, chrf=51.5, train_seconds=61.4, fresh=fresh)
    content = summary(best=best, pareto=(best.result,), objective="chrf")
    assert "Trials are compared by chrF." in shown(content)
    written = markdown(content)
    assert "| chrF, dev |" in written and "| es, 300 | #3 | 51.5 | 61 |" in written
    assert "| best, #3 | 2, 3 | 50.0 [45.0, 55.0] |" in written


def test_neighbours_of_the_best_are_told() -> None:
    near = Neighbour("schedule.end+", 0.85, Difference(-1.0, (-3.0, 1.0), 0.3))
    proof = Certificate("at a top: none of its 1 neighbours is shown to be better", (near,))
    content = summary(certificate=proof)
    assert "es: the search's best is at a top" in shown(content).replace("\n", " ")
    assert "| es, 300 | schedule.end+ | 0.85 | -1.0 [-3.0, 1.0], p = 0.300 |" in markdown(content)
