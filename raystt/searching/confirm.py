"""Train what leads, and what it is held against, anew on fresh seeds (see `verdict`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from raystt.config import OBJECTIVES, SearchConfig
from raystt.pools.errors import JobFailed
from raystt.progress import duration
from raystt.results import Proposal, Result
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools, measure
from raystt.searching.neighbours import missing_neighbours
from raystt.searching.progress import left_of_equal
from raystt.searching.verdict import answers, missing
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

    name = OBJECTIVES[search.objective]

    def run(proposal: Proposal, splits: list[str]) -> list[Result]:
        try:
            return list(measure(search, pools, proposal, splits))
        except (JobFailed, CheckpointError) as error:
            on_message(f"{proposal.label} could not be trained: {str(error).splitlines()[0]}")
            return []

    def train(what: str, wanted: list[tuple[Proposal, list[str]]]) -> None:
        if wanted:
            schedules = len({(one.language, one.trial, one.knob) for one, _ in wanted})
            on_message(f"{what}: {len(wanted)} trainings, schedules: {schedules}")
        start = time.monotonic()
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as waiting:
            begun = [waiting.submit(run, *one) for one in wanted]
            for number, done in enumerate(as_completed(begun), start=1):
                for result in done.result():
                    directory.append_confirmation(result)
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
