"""Sum up a search from what lies in its directory; works on an unfinished one too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from raystt.config import Objective, SearchConfig
from raystt.evaluation.jobs import Ceiling
from raystt.ranking import best, latest, pareto
from raystt.results import Result, ResultsError
from raystt.searching.directory import RunDirectory
from raystt.searching.neighbours import Certificate, certificate, missing_neighbours
from raystt.searching.summary import LanguageSummary, Line, Summary
from raystt.searching.verdict import Answer, answers, missing


def summarise_search(search: SearchConfig, directory: RunDirectory) -> Summary:
    """Sum up what a search has in its directory."""
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
    if confirmed:  # the search ends with them
        began = min(r.started for r in results)
        summary = replace(summary, wall_s=max(r.ended for r in (*results, *confirmed)) - began)
    lacking = [*missing(search, directory, searched), *missing_neighbours(search, directory, found)]
    return replace(summary, confirm=search.confirm, missing=len(lacking))


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
    ceilings: Mapping[str, Mapping[str, Ceiling]] | None = None,
    answers: Mapping[str, Answer] | None = None,
    certificates: Mapping[str, Certificate] | None = None,
) -> Summary:
    """Sum up results.

    Args:
        results: Lines of `results.jsonl`.
        name: Name of the search.
        split: The split trials are compared on (`evaluation.split`).
        objective: The score trials are compared by.
        references: Names of the fixed runs in the order to show; others follow as they were run.
        report_split: A split that chose nothing.
        workers: Processes, each with its device, that train a trial.
        pairs: Training pairs a language, from the corpus card; also fixes the languages' order.
        ceilings: What the evaluation gives to reference speech, by language and split.
        answers: What the search answers, by language.
        certificates: What is known of the neighbours of the best, by language.

    Raises:
        ResultsError: Two results of a language have different signatures and do not compare.
    """
    lines = latest(results)
    pairs, proofs, reference_speech = pairs or {}, certificates or {}, ceilings or {}
    order, last = {name: n for n, name in enumerate(references)}, len(references)
    languages = []
    for language in dict.fromkeys([*pairs, *(r.language for r in lines)]):
        mine = [r for r in lines if r.language == language and r.split == split]
        report = {
            r.trial: r for r in lines if r.language == language and r.split == report_split != split
        }
        answer = (answers or {}).get(language)
        # On fresh seeds another proposal may be ahead of the one that chance put first.
        winner = (answer.best if answer else None) or best(mine, objective)
        fixed = sorted(
            (r for r in mine if r.reference is not None),
            key=lambda r: (order.get(str(r.reference), last), r.trial),
        )
        languages.append(LanguageSummary(
            language=language,
            pairs=pairs.get(language),
            signature=_one_signature(language, [*mine, *report.values()]),
            results=tuple(mine),
            references={str(r.reference): _line(r, report, answer) for r in fixed},
            best=_line(winner, report, answer) if winner else None,
            answer=answer,
            certificate=proofs.get(language),
            pareto=tuple(pareto(mine, objective)),
            ceilings=reference_speech.get(language, {}),
        ))  # fmt: skip
    # From the first start to the last end, which a later look at the same lines finds again.
    began = min((r.started for r in lines), default=0.0)
    return Summary(
        name=name, objective=objective, split=split, report_split=report_split, workers=workers,
        wall_s=max((r.ended for r in lines), default=0.0) - began,
        overhead_s=sum(r.overhead_seconds for one in languages for r in one.results),
        languages=tuple(languages),
    )  # fmt: skip


def _line(result: Result, report: Mapping[int, Result], answer: Answer | None) -> Line:
    fresh = answer.fresh.get(result.trial) if answer else None
    return Line(result, report.get(result.trial), fresh)


def _one_signature(language: str, results: Sequence[Result]) -> str:
    """Return the signature all scores of a language share ("" where there is no score)."""
    signatures = sorted({r.signature for r in results if r.status == "complete"})
    if len(signatures) > 1:
        raise ResultsError(
            f"results of {language!r} were scored in different ways and do not compare: "
            f"{' and '.join(signatures)}; start the search under a new name"
        )
    return signatures[0] if signatures else ""
