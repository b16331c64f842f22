"""What is measured beside the trials: scores on the split that chose nothing, and ceilings."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import as_completed
from threading import Event
from typing import Any

import ray

from raystt.config import SearchConfig
from raystt.evaluation.jobs import Ceiling, CeilingJob
from raystt.pools.errors import JobFailed
from raystt.ranking import best
from raystt.results import Result
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools, at_once, measure
from raystt.searching.searcher import StudySearcher
from raystt.searching.verdict import to_confirm
from raystt.training.jobs import CheckpointError


def ask_ceilings(search: SearchConfig, pools: Pools) -> dict[tuple[str, str], Any]:
    """Have the ceilings measured that are not known yet, while the first trials train.

    Returns:
        What Ray gives for them, by (language, split).
    """
    config = search.base.evaluation
    places = [
        (language, split)
        for language in search.languages
        for split in dict.fromkeys((config.split, config.report_split))
    ]
    return {
        (language, split): pools.dispatcher.run.remote(
            CeilingJob(language, split, config), f"{language} ceiling"
        )
        for language, split in places
    }


def measured(
    ceilings: dict[tuple[str, str], Any], on_message: Callable[[str], None]
) -> dict[tuple[str, str], Ceiling]:
    """Return the ceilings; one that failed is told of, and costs the search nothing else."""
    found: dict[tuple[str, str], Ceiling] = {}
    for (language, split), pending in ceilings.items():
        try:
            found[language, split] = ray.get(pending).result
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            on_message(f"the ceiling of {language} on {split} was not measured: {cause}")
    return found


def report_scores(
    search: SearchConfig,
    ledger: Ledger,
    pools: Pools,
    searcher: StudySearcher,
    on_message: Callable[[str], None],
) -> None:
    """Score the fixed runs and what leads in each language on the split that chose nothing."""
    config = search.base.evaluation
    if config.report_split == config.split:
        return
    known = {(r.language, r.trial) for r in ledger.finished(config.report_split)}
    wanted: dict[tuple[str, int], Result] = {}
    for language in search.languages:
        mine = [r for r in ledger.finished() if r.language == language and r.status == "complete"]
        leading = [best(mine, search.objective), *to_confirm(search, mine)]
        wanted |= {
            (language, r.trial): r for r in mine
            if (r.reference is not None or r in leading) and (language, r.trial) not in known
        }  # fmt: skip
    if wanted:
        on_message(
            f"scoring {len(wanted)} models on {config.report_split}: fixed runs and what leads"
        )

    def evaluate(result: Result, ending: Event) -> Result | None:
        splits = [config.report_split]
        try:
            (scored,) = measure(search, pools, result.proposal(), splits, ending)
            return scored
        except (JobFailed, CheckpointError) as error:
            first = str(error).splitlines()[0]
            on_message(f"{result.label} has no score on {config.report_split}: {first}")
            return None

    with at_once(pools) as (waiting, ending):
        begun = [waiting.submit(evaluate, result, ending) for result in wanted.values()]
        for done in as_completed(begun):
            if (result := done.result()) is not None:
                ledger.add(result)
                searcher.studies[result.language].note(result)
