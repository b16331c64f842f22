"""Train what leads, and what it is held against, anew on fresh seeds (see `verdict`)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from raystt.config import SearchConfig
from raystt.pools.errors import JobFailed
from raystt.results import Result
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools, measure
from raystt.searching.verdict import folder_of, missing
from raystt.training.jobs import CheckpointError

_AT_ONCE = 64  # threads, which only wait


def confirm(
    search: SearchConfig,
    ledger: Ledger,
    directory: RunDirectory,
    pools: Pools,
    on_message: Callable[[str], None],
) -> None:
    """Train and score what is not confirmed yet; what is done lies in `confirmation.jsonl`.

    Args:
        search: The search, of which the trials are finished.
        ledger: Its results.
        directory: Its directory.
        pools: Its broker and dispatcher.
        on_message: Told of each score, and of what could not be run.

    Raises:
        Interrupted: The pools are gone.
    """
    wanted = missing(search, directory, ledger.finished())
    if wanted:
        schedules = len({(trial.language, trial.trial) for trial, *_ in wanted})
        on_message(f"confirming on fresh seeds: {len(wanted)} trainings, schedules: {schedules}")

    def run(place: tuple[Result, int, list[str]]) -> list[Result]:
        trial, seed, splits = place
        proposal = replace(trial.proposal(), seed=seed)
        try:
            return list(measure(search, pools, proposal, folder_of(trial, seed), splits))
        except (JobFailed, CheckpointError) as error:
            first = str(error).splitlines()[0]
            on_message(f"{trial.label} could not be trained on seed {seed}: {first}")
            return []

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as waiting:
        for done in as_completed([waiting.submit(run, place) for place in wanted]):
            for result in done.result():
                directory.append_confirmation(result)
            for result in done.result()[-1:]:
                score = f"ASR-BLEU {result.asr_bleu:.1f} on {result.split}"
                on_message(
                    f"{result.label}, seed {result.seed}: "
                    f"{score if result.status == 'complete' else result.status}"
                )
    if search.keep != "all":
        directory.prune([], directory.read_confirmation())
