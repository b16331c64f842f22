"""The tables of a search: what fits a terminal, what stands beside a score, what it is worth."""

from __future__ import annotations

import os
from typing import Any

import pytest
from made import diverged, result
from rich.console import Console

from raystt import schedule as schedules
from raystt.report import tables
from raystt.report.markdown import markdown

SIGNATURE = "nrefs:1|case:lc|asr:x|vocoder:conv|norm:plain"
LINEAR = {"shape": "linear", "initial": 0.9, "final": 0.0, "hold": 0.0, "end": 0.8}


def run(asr_bleu: float, trial: int, **more: Any) -> dict[str, Any]:
    return {
        "asr_bleu": asr_bleu, "ci": [asr_bleu - 2, asr_bleu + 2], "schedule": LINEAR,
        "trial": trial, "reference": None, "status": "complete", **more,
    }  # fmt: skip


def summary(**entry: Any) -> dict[str, Any]:
    language = {
        "pairs": 300, "signature": SIGNATURE, "references": {}, "best": run(40.0, 3),
        "pareto": [],
    }  # fmt: skip
    return {
        "name": "toy", "wall_s": 60.0, "trials": 4, "overhead_s_per_trial": 0.1,
        "signature": SIGNATURE, "split": "dev", "report_split": None, "objective": "asr_bleu",
        "languages": {"es": {**language, **entry}},
    }  # fmt: skip


def shown(content: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(tables.terminal(content))
    return console.export_text()


WIDEST = {"initial": 0.8634, "final": 0.0, "hold": 0.0, "end": 0.97812}


@pytest.mark.parametrize("shape", sorted(schedules.SHAPES))
@pytest.mark.parametrize(("hold", "name"), [(0.0, "constant"), (0.1234, "no_alignment")])
def test_nothing_is_cut_at_80_columns(shape: str, hold: float, name: str) -> None:
    fall = schedules.SHAPES[shape](**{**WIDEST, "hold": hold}).model_dump()
    test = {"asr_bleu": 41.0, "ci": [36.0, 46.0]}
    content = summary(
        pairs=10_000,
        references={
            "none": run(11.1, 0, reference="none", schedule=fall, test=test),
            name: run(22.2, 1, reference=name, schedule=fall, test=test),
        },
        best=run(44.6, 12, schedule=fall, test=test, metrics={"chrf": 60.0, "utmos": 4.0}),
    )
    text = shown({**content, "report_split": "test"})
    assert "…" not in text and "..." not in text
    for part in ("es, 10000", name, "best, #12", "22.2 [20.2, 24.2]",
                 "44.6 [42.6, 46.6]", "41.0 [36.0, 46.0]"):  # fmt: skip
        assert part in text
    label = tables.short_label(schedules.from_dict(fall))
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
    assert tables.short_label(schedule) == label


def test_all_trials_are_listed_by_score_with_the_difference_to_the_papers_schedule() -> None:
    content = summary(references={"paper": run(20.0, 1, reference="paper")})
    trials = [
        result(0, 12.5), result(1, 20.0, reference="paper"), result(3, 40.0),
        diverged(2), result(3, 99.0, split="test"), result(4, 88.0, language="fr"),
    ]  # fmt: skip
    text = markdown(content, trials)
    listed = [text.split(" | ")[1:] for text in text.splitlines() if " | #" in text]
    assert [(cells[0], cells[1], cells[-1].rstrip(" |")) for cells in listed] == [
        ("#3", "", "+20.0"), ("#1", "paper", "+0.0"), ("#0", "", "-7.5"), ("#2", "", "-"),
    ]  # fmt: skip
    assert "40.0 [35.0, 45.0]" in listed[0] and "diverged" in listed[3]
    assert "+20.0" in shown(content) and "vs paper" in text


def test_without_the_papers_schedule_there_is_no_difference() -> None:
    text = markdown(summary(), [result(3, 40.0)])
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
    ceiling = {
        kind: {"asr_bleu": score, "ci": [score, score], "signature": SIGNATURE}
        for kind, score in (("resynthesis", resynthesis), ("audio", 90.0))
    }
    content = summary(
        references={"none": run(none, 0, reference="none")}, ceilings={"dev": ceiling}
    )
    for text in (markdown(content, []), " ".join(shown(content).split())):
        told = [part for part in text.split(".\n") if "at the floor" in part]
        assert bool(told) == bool(reasons)
        for reason in reasons:
            assert reason in told[0].partition("at the floor")[2]


def test_metrics_that_a_run_has_get_a_column() -> None:
    content = summary(
        references={"none": run(20.0, 0, metrics={"chrf": 41.26, "utmos": 4.214}), "paper": None},
        best=run(40.0, 3, metrics={"chrf": 60.0}),
    )
    text = markdown(content, [])
    assert "| pairs | run | schedule | ASR-BLEU, dev | vs paper | chrF | UTMOS |" in text
    assert "20.0 [18.0, 22.0] | - | 41.3 | 4.21 |" in text
    assert "**40.0 [38.0, 42.0]** | **-** | **60.0** | **-** |" in text
    assert "no finished trial | - | - | - |" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| es")}
    assert widths == {6}
    assert "no finished trial" in shown(content)


def test_without_metrics_there_is_no_column() -> None:
    text = markdown(summary(), [])
    assert "| pairs | run | schedule | ASR-BLEU, dev | vs paper |\n" in text
    assert "chrF" not in text and "Ceiling" not in text


def test_the_ceiling_stands_in_the_file() -> None:
    score = {"asr_bleu": 93.04, "ci": [90.0, 95.0], "signature": SIGNATURE}
    audio = {"asr_bleu": 97.0, "ci": [96.0, 98.0], "signature": "vocoder:none"}
    ceiling = {"resynthesis": score, "audio": audio}
    line = (
        "Ceiling of es on dev, reference speech: "
        "resynthesis 93.0 [90.0, 95.0], audio 97.0 [96.0, 98.0]."
    )
    assert line in markdown(summary(ceilings={"dev": ceiling}), [])
    other = markdown(
        summary(ceilings={"dev": {**ceiling, "resynthesis": {**score, "signature": "x"}}}), []
    )
    assert f"{line} It was scored in another way, and does not compare: x" in other


def test_scores_by_another_objective_are_named() -> None:
    fresh = {"chrf": 50.0, "ci": [45.0, 55.0], "seeds": [2, 3]}
    front = [{"trial": 3, "chrf": 51.5, "device_seconds": 61.4}]
    content = {**summary(best=run(40.0, 3, fresh=fresh), pareto=front), "objective": "chrf"}
    assert "Trials are compared by chrF." in shown(content)
    written = markdown(content, [])
    assert "| chrF, dev |" in written and "| es, 300 | #3 | 51.5 | 61 |" in written
    assert "| best, #3 | 2, 3 | 50.0 [45.0, 55.0] |" in written


def test_neighbours_of_the_best_are_told() -> None:
    row = {"knob": "schedule.end+", "value": 0.85, "asr_bleu": -1.0, "ci": [-3.0, 1.0], "p": 0.3}
    proof = {"verdict": "at a top: none of its 1 neighbours is shown to be better"}
    best = run(40.0, 3, certificate={**proof, "neighbours": [row]})
    assert "es: the search's best is at a top" in shown(summary(best=best)).replace("\n", " ")
    written = markdown(summary(best=best), [])
    assert "| es, 300 | schedule.end+ | 0.85 | -1.0 [-3.0, 1.0], p = 0.300 |" in written
