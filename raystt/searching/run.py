"""Run a search: prepare the corpus, start the pools, let Tune drive the studies, sum up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune

from raystt import remote
from raystt.cluster.environment import environment
from raystt.cluster.plan import describe
from raystt.cluster.start import alive_nodes, ray_session
from raystt.config import SearchConfig
from raystt.files import storage_error, write_atomic
from raystt.pools.errors import Interrupted
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.growth import Growth
from raystt.pools.trainers import TrainerPool
from raystt.preparation.prepare import prepare
from raystt.ranking import dataframe
from raystt.results import Proposal
from raystt.searching import experiment, tracking
from raystt.searching.best import write_best
from raystt.searching.confirm import confirm
from raystt.searching.directory import RunDirectory
from raystt.searching.final import ask_ceilings, measured, report_scores
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools
from raystt.searching.progress import Snapshot
from raystt.searching.reconcile import reconcile
from raystt.searching.room import Room
from raystt.searching.searcher import StudySearcher
from raystt.searching.summarise import summarise_search
from raystt.searching.trial import Trial
from raystt.searching.verdict import answers
from raystt.searching.watch import Watch
from raystt.training.states import sweep

_STOPPED = (
    "the search has stopped: {cause}. Nothing finished is lost; mend it, then --resume goes on "
    "with what is missing"
)


class SearchFailed(RuntimeError):
    """The search stopped before its end, or lacks a score; the text says why and how to go on."""


def run_search(
    search: SearchConfig,
    directory: RunDirectory,
    *,
    on_prepare: Callable[[str, int, int], None],
    on_prepared: Callable[[], None],
    on_progress: Callable[[Snapshot], None],
    on_message: Callable[[str], None],
    verbose: bool = False,
) -> None:
    """Run a search to its end and write what it found.

    Args:
        search: What to search.
        directory: Where everything is written; holds what was done before.
        on_prepare: Told (stage, done, total) while the corpus is prepared.
        on_prepared: Called once it is; what it raises ends the search.
        on_progress: Told of the search every second.
        on_message: Told single events, such as a lost worker.
        verbose: Let what workers print reach the terminal.

    Raises:
        ClusterTooSmall: The pools can never fit.
        SearchFailed: Trials failed one after the other, the storage or workers were lost for
            longer than `resources.patience`, or a language has no score.
        TrackingError: A tracker that is asked for is not installed.
    """
    with _told(directory):
        resources, corpus = search.base.resources, remote.local(search.base.corpus.path)
        trackers = tracking.trackers(search, directory.path)
        reconcile(search, directory, on_message)
        sweep(directory.states)
        ledger = Ledger(search, directory, on_message)
        shared = [corpus, directory.path]
        with ray_session(
            resources, shared=shared, verbose=verbose, on_message=on_message
        ) as session:
            if session.dashboard:
                on_message(f"Ray dashboard: {session.dashboard} (its token: `ray get-auth-token`)")
            if resources.auto:
                on_message(f"resources: {'; '.join(describe(session.resources, alive_nodes()))}")
            resources = session.resources
            directory.write_environment(environment())
            prepare(
                search.base.corpus, resources=resources, progress=on_prepare,
                interleaving=search.interleaving, on_message=on_message,
            )  # fmt: skip
            on_prepared()
            directory.keep_card(corpus)
            directory.keep_recordings(corpus, search)
            on_message("starting trainers and evaluators")
            with (
                TrainerPool(resources, directory.path / "ray", on_message) as trainers,
                EvaluatorPool(
                    str(corpus), search.base.evaluation, resources, on_message
                ) as evaluators,
            ):
                callbacks = experiment.callbacks(trackers)
                trainers.wait_until_ready()
                evaluators.wait_until_ready()
                pools = Pools(
                    broker=trainers.broker,
                    dispatcher=evaluators.dispatcher,
                    corpus=str(corpus),
                    states=str(directory.states),
                    trials=str(directory.trials),
                )
                searcher = StudySearcher(search, directory.journal, ledger)
                ledger.running = lambda: searcher.running().values()
                ceilings = ask_ceilings(search, pools)
                room = Room(directory)
                auto = search.base.resources.auto
                growth = Growth(resources, trainers, evaluators, auto, on_message)
                watch = Watch(
                    search, ledger, room, pools, growth, searcher, on_progress, on_message
                )
                try:
                    with watch:
                        _tune(search, ledger, searcher, pools, directory, callbacks)
                        report_scores(search, ledger, pools, searcher, on_message)
                        confirm(search, ledger, directory, pools, on_message)
                        directory.write_ceilings(measured(ceilings, on_message))
                except Exception as error:
                    # Told before Ray is shut down: beneath trainers that are busy, that may crash.
                    first = (str(error).strip() or type(error).__name__).splitlines()[0]
                    on_message(f"stopping: {first}")
                    raise
        _write_best(search, ledger, directory)
        summary, split = summarise_search(search, directory), search.base.evaluation.split
        failed = search.total_trials - summary.trials
        if failed:
            on_message(
                f"{failed} trials could not be run, see {directory.failures}; --resume tries each "
                "once more, with its own values"
            )
        trials = dataframe(directory.read(), split=split, objective=search.objective)
        write_atomic(directory.table, trials.to_csv(index=False))
        directory.write_summary(summary.as_dict())


@contextmanager
def _told(directory: RunDirectory) -> Iterator[None]:
    """Turn what interrupts a search, and a lost storage, into `SearchFailed` with the way on."""
    unwritten = remote.unwritable(directory.path)
    if unwritten:
        raise SearchFailed(f"{unwritten}; make room or make it writable, then --resume")
    try:
        yield
    except (Interrupted, TimeoutError) as error:
        raise SearchFailed(_STOPPED.format(cause=error)) from None
    except Exception as error:
        if not storage_error(error):
            raise
        raise SearchFailed(
            f"the storage was lost: {error}; make room or make it writable, then --resume goes on "
            "with what is finished"
        ) from error


def _tune(
    search: SearchConfig,
    ledger: Ledger,
    searcher: StudySearcher,
    pools: Pools,
    directory: RunDirectory,
    callbacks: list[Any],
) -> None:
    """Run the trials that are still missing through one Tune run."""
    finished = ledger.finished()
    experiment.mend(finished, directory.path)
    tracking.mend(callbacks, finished, directory.path)
    if searcher.missing <= 0 and not finished:
        return
    # What a trial writes is read here: where nodes have copies of their own, it runs here.
    here = f"node:{ray.util.get_node_ip_address()}"
    trainable = tune.with_resources(
        tune.with_parameters(Trial, pools=pools, search=search),
        # An empty bundle is rejected; the pools hold the resources, a trial only asks them.
        {here if remote.url_of(directory.path) else "CPU": 0.001},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=experiment.ResumedSearch(searcher, finished, directory.path),
            scheduler=experiment.InOrder(),
            num_samples=-1,  # until the searcher says that there are no more
            reuse_actors=True,
            trial_name_creator=lambda trial: Proposal.from_config(trial.config).label,
            trial_dirname_creator=lambda trial: Proposal.from_config(trial.config).folder,
        ),
        run_config=tune.RunConfig(
            name=directory.tune.name,
            storage_path=str(directory.path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # states are ours
            callbacks=callbacks,
        ),
    )
    with _ctrl_c_restored():
        tuner.fit()
    if searcher.stopped:
        raise SearchFailed(_STOPPED.format(cause=searcher.stopped))
    if not searcher.exhausted and searcher.missing > 0:
        # Tune ends quietly on Ctrl-C, but the search is not done.
        raise KeyboardInterrupt


@contextmanager
def _ctrl_c_restored() -> Iterator[None]:
    """Take Tune's handler away again, which it leaves: the first Ctrl-C would do nothing."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _write_best(search: SearchConfig, ledger: Ledger, directory: RunDirectory) -> None:
    """Write for each language what its final model is trained with, and its model so far."""
    tested = {
        (r.language, r.trial): r for r in ledger.finished(search.base.evaluation.report_split)
    }
    found = answers(search, directory)
    for language in search.languages:
        if language not in found:
            raise SearchFailed(
                f"no trial of {language!r} has a score; see {directory.failures}, then go on with "
                "--resume"
            )
        answer = found[language]
        write_best(search, directory, answer, tested.get((language, answer.chosen.trial)))
    chosen = [answer.chosen for answer in found.values()]
    directory.prune(ledger.kept(chosen), ledger.finished())
