"""The table of a search: metrics beside ASR-BLEU where there are any, and each ceiling."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

from raystt.report import tables

SIGNATURE = "nrefs:1|case:lc|asr:x|vocoder:conv|norm:plain"
LINEAR = {"shape": "linear", "initial": 0.9, "final": 0.0, "hold": 0.0, "end": 0.8}


def run(asr_bleu: float, trial: int, **more: Any) -> dict[str, Any]:
    return {
        "asr_bleu": asr_bleu, "ci": [asr_bleu - 2, asr_bleu + 2], "schedule": LINEAR,
        "trial": trial, "reference": None, "status": "complete", **more,
    }  # fmt: skip


def summary(**entry: Any) -> dict[str, Any]:
    language = {"pairs": 300, "signature": SIGNATURE, "references": {}, "best": run(40.0, 3)}
    return {
        "name": "toy", "wall_s": 60.0, "trials": 4, "overhead_s_per_trial": 0.1,
        "signature": SIGNATURE, "split": "dev", "report_split": None,
        "languages": {"es": {**language, **entry}},
    }  # fmt: skip


def shown(content: dict[str, Any]) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(tables.terminal(content))
    return console.export_text()


def test_metrics_that_a_run_has_get_a_column() -> None:
    content = summary(
        references={"none": run(20.0, 0, metrics={"chrf": 41.26, "utmos": 4.214}), "paper": None},
        best=run(40.0, 3, metrics={"chrf": 60.0}),
    )
    text = tables.markdown(content)
    assert "| pairs | run | schedule | ASR-BLEU, dev | chrF | UTMOS |" in text
    assert "20.0 [18.0, 22.0] | 41.3 | 4.21 |" in text
    assert "**40.0 [38.0, 42.0]** | **60.0** | **-** |" in text
    assert "no finished trial | - | - |" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| es")}
    assert widths == {5}
    assert "UTMOS" in shown(content) and "4.21" in shown(content)


def test_without_metrics_there_is_no_column() -> None:
    text = tables.markdown(summary())
    assert "| pairs | run | schedule | ASR-BLEU, dev |\n" in text
    assert "chrF" not in text and "Ceiling" not in text


def test_the_ceiling_stands_in_both_tables() -> None:
    score = {"asr_bleu": 93.04, "ci": [90.0, 95.0], "signature": SIGNATURE}
    audio = {"asr_bleu": 97.0, "ci": [96.0, 98.0], "signature": "vocoder:none"}
    ceiling = {"resynthesis": score, "audio": audio}
    line = (
        "Ceiling of es on dev, reference speech: "
        "resynthesis 93.0 [90.0, 95.0], audio 97.0 [96.0, 98.0]."
    )
    assert line in tables.markdown(summary(ceilings={"dev": ceiling}))
    assert line in " ".join(shown(summary(ceilings={"dev": ceiling})).split())
    other = tables.markdown(
        summary(ceilings={"dev": {**ceiling, "resynthesis": {**score, "signature": "x"}}})
    )
    assert f"{line} It was scored in another way, and does not compare: x" in other
