"""Run a search: prepare the corpus, start the pools, let Tune drive the studies, sum up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raystt.cluster.start import ray_session
from raystt.config import SearchConfig
from raystt.evaluation.jobs import CeilingJob, EvaluationJob
from raystt.files import write_atomic
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool
from raystt.preparation.prepare import prepare
from raystt.progress import Snapshot
from raystt.results import Proposal, Result, best, dataframe
from raystt.searching import experiment
from raystt.searching.best import write_best
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.searcher import StudySearcher
from raystt.searching.summary import summarise_search, write_summary
from raystt.searching.trial import Pools, Trial, scored
from raystt.searching.watch import Watch


class SearchFailed(RuntimeError):
    """The search ended without a score that it needs; the text says which and where to look."""


def run_search(
    search: SearchConfig,
    directory: RunDirectory,
    *,
    on_prepare: Callable[[str, int, int], None],
    on_progress: Callable[[Snapshot], None],
    on_message: Callable[[str], None],
    verbose: bool = False,
) -> dict[str, Any]:
    """Run a search to its end and return its summary, which is also written.

    Args:
        search: What to search.
        directory: Where everything is written; holds what was done before.
        on_prepare: Told (stage, done, total) while the corpus is prepared.
        on_progress: Told of the search every second.
        on_message: Told single events, such as a lost worker.
        verbose: Let what workers print reach the terminal.

    Raises:
        ClusterTooSmall: The pools can never fit.
        SearchFailed: Every trial of a language failed.
        TrackingError: A tracker that is asked for is not installed.
    """
    resources, corpus = search.base.resources, Path(search.base.corpus.path).resolve()
    callbacks = experiment.loggers(search, directory.path)
    ledger = Ledger(search, directory, on_message)
    # Ray Train's own files of an earlier driver: nothing in them is needed, and it would restore
    # them.
    shutil.rmtree(directory.path / "ray", ignore_errors=True)
    shared = [corpus, directory.path]
    with ray_session(resources, shared=shared, verbose=verbose, on_message=on_message) as dashboard:
        if dashboard:
            on_message(f"Ray dashboard: {dashboard} (its token: `ray get-auth-token`)")
        prepare(
            search.base.corpus, resources=resources, progress=on_prepare,
            interleaving=search.base.interleaving, on_message=on_message,
        )  # fmt: skip
        directory.keep_card(corpus)
        on_message("starting trainers and evaluators")
        with (
            TrainerPool(resources, directory.path / "ray") as trainers,
            EvaluatorPool(str(corpus), search.base.evaluation, resources) as evaluators,
        ):
            trainers.wait_until_ready()
            evaluators.wait_until_ready()
            pools = Pools(
                broker=trainers.broker,
                dispatcher=evaluators.dispatcher,
                corpus=str(corpus),
                states=str(directory.states),
                trials=str(directory.trials),
            )
            searcher = StudySearcher(
                search, directory.journal,
                lambda proposal, report: ledger.take(proposal, report, searcher.running().values()),
            )  # fmt: skip
            for result in ledger.finished():
                # A kill between the line of a result and the journal must not cost the trial.
                searcher.settle(result)
            ceilings = _ask_ceilings(search, evaluators)
            with Watch(search, ledger.finished, pools, searcher, on_progress, on_message):
                _tune(search, ledger, searcher, pools, directory, callbacks)
                _report_scores(search, ledger, directory, evaluators, searcher, on_message)
                directory.write_ceilings(_measured(ceilings, on_message))
    shutil.rmtree(directory.path / "ray", ignore_errors=True)
    _write_best(search, ledger, directory)
    directory.prune(ledger.kept(fixed=False), ledger.finished())
    summary, split = summarise_search(search, directory), search.base.evaluation.split
    failed = search.total_trials - summary["trials"]
    if failed:
        on_message(
            f"{failed} trials could not be run, see {directory.failures}; --resume tries again"
        )
    write_atomic(directory.table, dataframe(directory.read(), split=split).to_csv(index=False))
    write_summary(directory.summary, summary)
    return summary


def _tune(
    search: SearchConfig,
    ledger: Ledger,
    searcher: StudySearcher,
    pools: Pools,
    directory: RunDirectory,
    callbacks: list[Any],
) -> None:
    """Run the trials that are still missing through one Tune run."""
    finished, missing = ledger.finished(), searcher.missing
    experiment.mend(finished, directory.path)
    if missing <= 0 and not finished:
        return
    resources = search.base.resources
    trainable = tune.with_resources(
        tune.with_parameters(Trial, pools=pools, search=search),
        # An empty bundle is rejected; the pools hold the resources, a trial only asks them.
        {"CPU": 0.001},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=experiment.ResumedSearch(
                searcher,
                finished,
                directory.path,
                # Trainers work on one trial while another is being evaluated.
                concurrent=resources.trainers + resources.evaluators,
            ),
            num_samples=missing,
            reuse_actors=True,
            trial_name_creator=lambda trial: Proposal.from_config(trial.config).label,
            trial_dirname_creator=lambda trial: Proposal.from_config(trial.config).folder,
        ),
        run_config=tune.RunConfig(
            name=experiment.FOLDER,
            storage_path=str(directory.path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            callbacks=callbacks,
        ),
    )
    tuner.fit()
    if searcher.completed < missing:
        # Tune ends quietly on Ctrl-C, but the search is not done.
        raise KeyboardInterrupt


def _ask_ceilings(search: SearchConfig, evaluators: EvaluatorPool) -> dict[tuple[str, str], Any]:
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
        (language, split): evaluators.dispatcher.run.remote(
            CeilingJob(language, split, config), f"{language} ceiling"
        )
        for language, split in places
    }


def _measured(
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


def _report_scores(
    search: SearchConfig,
    ledger: Ledger,
    directory: RunDirectory,
    evaluators: EvaluatorPool,
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

    def evaluate(result: Result) -> Result:
        run = search.run_for(result.language, result.overrides)
        job = EvaluationJob(
            model=str(directory.model(result)),
            language=result.language,
            split=config.report_split,
            config=run.evaluation,
            interleaving=run.interleaving,
        )
        began = time.time()
        served = ray.get(evaluators.dispatcher.run.remote(job, result.label))
        evaluation = served.result
        evaluation.write(
            directory.trials / result.folder / f"hypotheses-{config.report_split}.jsonl"
        )
        return replace(
            result,
            **scored(evaluation, run.evaluation),
            split=config.report_split,
            evaluate_seconds=evaluation.seconds,
            wait_seconds=served.wait_seconds,
            overhead_seconds=0.0,
            started=began,
            ended=time.time(),
        )

    # Threads only wait here: the evaluators do the work.
    with ThreadPoolExecutor(max_workers=16) as waiting:
        for result in waiting.map(evaluate, wanted.values()):
            ledger.add(result)
            searcher.studies[result.language].note(result)


def _write_best(search: SearchConfig, ledger: Ledger, directory: RunDirectory) -> None:
    """Write for each language what its final model is trained with, and its model so far."""
    tested = {
        (r.language, r.trial): r for r in ledger.finished(search.base.evaluation.report_split)
    }
    for language in search.languages:
        winner = best(r for r in ledger.finished() if r.language == language)
        if winner is None:
            raise SearchFailed(
                f"no trial of {language!r} has a score; see {directory.failures}, then go on with "
                "--resume"
            )
        write_best(search, directory, winner, tested.get((language, winner.trial)))
