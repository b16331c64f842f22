"""What is measured beside the trials: scores on the split that chose nothing, and ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import ray

from raystt.config import SearchConfig
from raystt.evaluation.jobs import CeilingJob, EvaluationJob
from raystt.pools.broker import served
from raystt.pools.errors import JobFailed
from raystt.results import Result, best
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.searcher import StudySearcher
from raystt.searching.trial import Pools, scored, segments_of
from raystt.training.jobs import CheckpointError, StateLost


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
) -> dict[tuple[str, str], Any]:
    """Return the ceilings; one that failed is told of, and costs the search nothing else."""
    found = {}
    for (language, split), pending in ceilings.items():
        try:
            found[language, split] = asdict(ray.get(pending).result)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            on_message(f"the ceiling of {language} on {split} was not measured: {cause}")
    return found


def report_scores(
    search: SearchConfig,
    ledger: Ledger,
    directory: RunDirectory,
    pools: Pools,
    searcher: StudySearcher,
    on_message: Callable[[str], None],
) -> None:
    """Score the fixed runs and the best of each language on the split that chose nothing."""
    config = search.base.evaluation
    if config.report_split == config.split:
        return
    known = {(r.language, r.trial) for r in ledger.finished(config.report_split)}
    wanted: dict[tuple[str, int], Result] = {}
    for language in search.languages:
        mine = [r for r in ledger.finished() if r.language == language and r.status == "complete"]
        winner = best(mine)
        wanted |= {
            (language, r.trial): r for r in mine
            if (r.reference is not None or r is winner) and (language, r.trial) not in known
        }  # fmt: skip
    if wanted:
        on_message(f"scoring {len(wanted)} models on {config.report_split}: fixed runs and best")

    def evaluate(result: Result) -> Result | None:
        try:
            return _score(search, directory, pools, result)
        except (JobFailed, CheckpointError) as error:
            first = str(error).splitlines()[0]
            on_message(f"{result.label} has no score on {config.report_split}: {first}")
            return None

    # Threads only wait here: the evaluators do the work.
    with ThreadPoolExecutor(max_workers=16) as waiting:
        for result in waiting.map(evaluate, wanted.values()):
            if result is not None:
                ledger.add(result)
                searcher.studies[result.language].note(result)


def _score(search: SearchConfig, directory: RunDirectory, pools: Pools, result: Result) -> Result:
    """Score a trial on the split that chose nothing; a model that was lost is trained again.

    Raises:
        JobFailed: It cannot be trained or scored.
        CheckpointError: Its state is lost again and again.
        Interrupted: The pools are gone.
    """
    run = search.run_for(result.language, result.overrides)
    split = run.evaluation.report_split
    segments = segments_of(search, run, pools, result.folder)
    began = time.time()
    while True:
        try:
            while (job := segments.next_job()) is not None:
                segments.done(served(pools.broker.run.remote(job, result.label)).result)
            answer = served(pools.dispatcher.run.remote(
                EvaluationJob(
                    model=str(segments.finished[-1].model), language=result.language, split=split,
                    config=run.evaluation, interleaving=run.interleaving,
                ),
                result.label,
            ))  # fmt: skip
            break
        except StateLost as lost:
            segments.rewind(lost)
    evaluation = answer.result
    evaluation.write(directory.trials / result.folder / f"hypotheses-{split}.jsonl")
    return replace(
        result,
        **scored(evaluation, run.evaluation),
        split=split,
        evaluate_seconds=evaluation.seconds,
        wait_seconds=answer.wait_seconds,
        overhead_seconds=0.0,
        started=began,
        ended=time.time(),
    )
