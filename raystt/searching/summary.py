"""Sum up a search from what lies in its directory; works on an unfinished one too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raystt.config import Objective, SearchConfig
from raystt.files import write_atomic
from raystt.ranking import best, latest, pareto
from raystt.results import Result, ResultsError
from raystt.searching.directory import RunDirectory
from raystt.searching.fresh import Difference, Fresh
from raystt.searching.neighbours import Certificate, certificate, missing_neighbours
from raystt.searching.verdict import Answer, answers, missing


def summarise_search(search: SearchConfig, directory: RunDirectory) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    config, card, results = search.base.evaluation, directory.card(), directory.read()
    searched = [r for r in results if r.split == config.split]
    confirmed, found = directory.read_confirmation(), answers(search, directory)
    summary = summarise(
        results,
        name=search.name,
        references=search.fixed_names,
        objective=search.objective,
        split=config.split,
        report_split=config.report_split,
        workers=search.base.resources.workers_per_trainer,
        pairs={name: card.split(name, "train").pairs for name in search.languages},
        ceilings=directory.read_ceilings(),
        answers=found,
        certificates={
            name: proof for name, answer in found.items()
            if (proof := certificate(search, directory, answer)) is not None
        },
    )  # fmt: skip
    lacking = [*missing(search, directory, searched), *missing_neighbours(search, directory, found)]
    if confirmed:  # the search ends with them
        began = min(r.started for r in results)
        summary["wall_s"] = round(max(r.ended for r in (*results, *confirmed)) - began, 3)
    return summary | {"confirm": {**search.confirm.model_dump(), "missing": len(lacking)}}


def summarise(
    results: Iterable[Result],
    *,
    name: str,
    split: str,
    objective: Objective = "asr_bleu",
    references: Sequence[str] = (),
    report_split: str | None = None,
    workers: int = 1,
    pairs: Mapping[str, int] | None = None,
    ceilings: Mapping[str, Any] | None = None,
    answers: Mapping[str, Answer] | None = None,
    certificates: Mapping[str, Certificate] | None = None,
) -> dict[str, Any]:
    """Summarise a search for `summary.json`.

    Args:
        results: Lines of `results.jsonl`.
        name: Name of the search.
        split: The split trials are compared on (`evaluation.split`).
        objective: The score trials are compared by.
        references: Names of the fixed runs in the order to show; others follow as they were run.
        report_split: A split that chose nothing; its scores become the entries' "test".
        workers: Processes, each with its device, that train a trial.
        pairs: Training pairs a language, from the corpus card; also fixes the languages' order.
        ceilings: What the evaluation gives to reference speech, a language and split.
        answers: What the search answers, by language.
        certificates: What is known of the neighbours of the best, by language.

    Raises:
        ResultsError: Two results of a language have different signatures and do not compare.
    """
    lines = latest(results)
    pairs, proofs = pairs or {}, certificates or {}
    order, last = {name: n for n, name in enumerate(references)}, len(references)
    languages = list(dict.fromkeys([*pairs, *(r.language for r in lines)]))
    searched = [r for r in lines if r.split == split]
    trials = {(r.language, r.trial) for r in searched}
    overhead = sum(r.overhead_seconds for r in searched if (r.language, r.trial) in trials)
    # From the first start to the last end, which a later look at the same lines finds again.
    wall_s = max((r.ended for r in lines), default=0.0) - min(
        (r.started for r in lines), default=0.0
    )
    entries = {}
    signatures: dict[str, None] = {}
    for language in languages:
        mine = [r for r in searched if r.language == language]
        report = {
            r.trial: r for r in lines if r.language == language and r.split == report_split != split
        }
        signature = _one_signature(language, [*mine, *report.values()])
        if signature:
            signatures[signature] = None
        answer = (answers or {}).get(language)
        # On fresh seeds another proposal may be ahead of the one that chance put first.
        winner = (answer.best if answer else None) or best(mine, objective)
        entries[language] = {
            "verdict": answer.verdict if answer else None,
            "chosen": _named(answer.chosen) if answer else None,
            "pairs": pairs.get(language),
            "trials": len({r.trial for r in mine}),
            "diverged": len({r.trial for r in mine if r.status == "diverged"}),
            "signature": signature,
            "references": {
                r.reference: _entry(r, report, answer, objective)
                for r in sorted(mine, key=lambda r: (order.get(r.reference or "", last), r.trial))
                if r.reference is not None
            },
            "best": _best(winner, report, answer, proofs.get(language), objective)
            if winner
            else None,
            "pareto": [
                {
                    "trial": r.trial,
                    objective: r.value(objective),
                    "device_seconds": round(r.train_seconds * workers, 1),
                }
                for r in pareto(mine, objective)
            ],
            "fidelity": _fidelity(mine),
            **({"ceilings": ceilings[language]} if ceilings and language in ceilings else {}),
        }
    return {
        "name": name,
        "wall_s": round(wall_s, 3),
        "trials": len(trials),
        "overhead_s_per_trial": round(overhead / len(trials), 4) if trials else 0.0,
        "signature": "; ".join(signatures),
        "objective": objective,
        "split": split,
        "report_split": report_split,
        "languages": entries,
    }


def _fidelity(results: Sequence[Result]) -> dict[str, Any]:
    """Say how many segments were asked for, and how many were trained; others knew the rest.

    No trial is judged before its end: signals from before it earned nothing (docs/search.md).
    """
    states = [state for result in results for state in result.states]
    return {
        "used": False,
        "rank_correlation": None,
        "segments_asked": len(states),
        "segments_trained": len(set(states)),
    }


def _one_signature(language: str, results: Sequence[Result]) -> str:
    """Return the signature all scores of a language share ("" where there is no score)."""
    signatures = sorted({r.signature for r in results if r.status == "complete"})
    if len(signatures) > 1:
        raise ResultsError(
            f"results of {language!r} were scored in different ways and do not compare: "
            f"{' and '.join(signatures)}; start the search under a new name"
        )
    return signatures[0] if signatures else ""


def _named(result: Result) -> dict[str, Any]:
    return {"trial": result.trial, "reference": result.reference}


def _best(
    result: Result, report: Mapping[int, Result], answer: Answer | None,
    proof: Certificate | None, objective: Objective,
) -> dict[str, Any]:  # fmt: skip
    """Return the line of the best, with what speaks for it."""
    entry = {
        **_entry(result, report, answer, objective),
        "overrides": dict(result.overrides),
        "trials": [result.trial],
    }
    if answer is not None and answer.best == result:
        entry["difference"] = {
            name: _scored(one, objective) for name, one in answer.differences.items()
        }
        entry["optimism"] = answer.optimism
    if proof is not None:
        rows = [
            {"knob": one.knob, "value": one.value, **_scored(one.difference, objective)}
            for one in proof.neighbours
        ]
        entry["certificate"] = {"verdict": proof.verdict, "neighbours": rows}
    return entry


def _scored(found: Fresh | Difference, objective: Objective) -> dict[str, Any]:
    """Return a score under the name of what it is."""
    values = asdict(found)
    return {objective: values.pop("score"), **values}


def _entry(
    result: Result, report: Mapping[int, Result], answer: Answer | None, objective: Objective
) -> dict[str, Any]:
    """Return one line of the summary.

    "test" is what the trial scores on the report split, "fresh" what its schedule does there, on
    the mean, when it is trained on fresh seeds.
    """
    entry: dict[str, Any] = {
        "asr_bleu": result.asr_bleu,
        "ci": list(result.ci),
        "schedule": result.schedule.model_dump(),
        "trial": result.trial,
        "reference": result.reference,
        "status": result.status,
        "metrics": result.metrics,
    }
    if result.trial in report:
        test = report[result.trial]
        entry["test"] = {
            "asr_bleu": test.asr_bleu,
            "ci": list(test.ci),
            "sentences": test.sentences,
        }
    if answer is not None and result.trial in answer.fresh:
        entry["fresh"] = _scored(answer.fresh[result.trial], objective)
    return entry


def write_summary(path: str | os.PathLike[str], summary: Mapping[str, Any]) -> None:
    """Write `summary.json` atomically."""
    write_atomic(path, json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
