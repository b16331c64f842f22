"""Train what leads, and what it is held against, anew on fresh seeds (see `verdict`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import as_completed
from threading import Event

from raystt.config import OBJECTIVES, SearchConfig
from raystt.pools.errors import Interrupted, JobFailed
from raystt.progress import duration
from raystt.results import Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools, at_once, measure
from raystt.searching.neighbours import missing_neighbours
from raystt.searching.progress import left_of_equal
from raystt.searching.searcher import IN_A_ROW
from raystt.searching.verdict import answers, missing
from raystt.training.jobs import CheckpointError


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
        Interrupted: The pools are gone, the storage takes nothing, or nothing can be trained.
    """

    name = OBJECTIVES[search.objective]
    causes: list[str] = []  # of those in a row that could not be trained

    def run(proposal: Proposal, splits: list[str], ending: Event) -> list[Result]:
        try:
            return list(measure(search, pools, proposal, splits, ending))
        except (JobFailed, CheckpointError) as error:
            cause = str(error).splitlines()[0]
            on_message(f"{proposal.label} could not be trained: {cause}")
            causes.append(f"{proposal.label}: {cause}")
            return []

    def train(what: str, wanted: list[tuple[Proposal, list[str]]]) -> None:
        if wanted:
            schedules = len({(one.language, one.trial, one.knob) for one, _ in wanted})
            on_message(f"{what}: {len(wanted)} trainings, schedules: {schedules}")
        start = time.monotonic()
        with at_once(pools) as (waiting, ending):
            begun = [waiting.submit(run, *one, ending) for one in wanted]
            for number, done in enumerate(as_completed(begun), start=1):
                for result in done.result():
                    causes.clear()
                    directory.append_confirmation(result)
                if len(causes) >= IN_A_ROW:
                    raise Interrupted(
                        f"{len(causes)} trainings in a row could not be done, the last {causes[-1]}"
                    )
                if search.keep != "all" and search.fidelity.segments == 1:
                    directory.prune([], done.result())  # else another may go on from its states
                for result in done.result()[-1:]:  # one line a training
                    score = f"{name} {result.value(search.objective):.1f} on {result.split}"
                    score = score if result.status == "complete" else result.status
                    open_ = len(wanted) - number
                    left = left_of_equal(
                        time.monotonic() - start, number, len(wanted),
                        # One of each kind works for a training at a time.
                        search.base.resources.trainers + search.base.resources.evaluators,
                    )  # fmt: skip
                    on_message(
                        f"{number}/{len(wanted)} {result.label} on a fresh seed: {score}"
                        + (f", about {duration(left)} left" if open_ else "")
                    )

    train("confirming on fresh seeds", missing(search, directory, ledger.finished()))
    around = missing_neighbours(search, directory, answers(search, directory))
    train("neighbours of the best on fresh seeds", around)
    if search.keep != "all":
        directory.prune([], directory.read_confirmation())
