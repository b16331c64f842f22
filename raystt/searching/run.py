"""Run a search: prepare the corpus, start the pools, let Tune drive the studies, sum up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raystt.cluster.start import ray_session
from raystt.config import SearchConfig
from raystt.evaluation.jobs import CeilingJob, Evaluation, EvaluationJob
from raystt.interleaving.rules import Interleaving
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool
from raystt.preparation.prepare import prepare
from raystt.progress import Snapshot
from raystt.results import Result, best, latest, write_summary
from raystt.searching.directory import RunDirectory
from raystt.searching.fidelity import FullFidelity
from raystt.searching.searcher import StudySearcher
from raystt.searching.study import LanguageStudy, open_journal
from raystt.searching.summary import summarise_search
from raystt.searching.trial import Pools, Trial
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
) -> dict[str, Any]:
    """Run a search to its end and return its summary, which is also written.

    Args:
        search: What to search.
        directory: Where everything is written; holds what was done before.
        on_prepare: Told (stage, done, total) while the corpus is prepared.
        on_progress: Told of the search every second.
        on_message: Told single events, such as a lost worker.

    Raises:
        ClusterTooSmall: The pools can never fit.
        SearchFailed: Every trial of a language failed.
    """
    began, resumed = time.time(), bool(directory.read())
    resources = search.base.resources
    # Ray's own files of an earlier driver: nothing in them is needed, and Train would restore them.
    shutil.rmtree(directory.path / "ray", ignore_errors=True)
    with ray_session(resources):
        prepare(search.base.corpus, resources=resources, progress=on_prepare, on_message=on_message)
        corpus = str(Path(search.base.corpus.path).resolve())
        on_message("starting trainers and evaluators")
        with (
            TrainerPool(resources, directory.path / "ray") as trainers,
            EvaluatorPool(corpus, search.base.evaluation, resources) as evaluators,
        ):
            trainers.wait_until_ready()
            evaluators.wait_until_ready()
            storage = open_journal(directory.journal)
            studies = {name: LanguageStudy(search, name, storage) for name in search.languages}
            for result in latest(directory.read()):
                # A kill between the line of a result and the journal must not cost the trial.
                if result.final and result.split == search.base.evaluation.split:
                    studies[result.language].settle(result.trial, result.score, result.status)
            pools = Pools(
                broker=trainers.broker,
                dispatcher=evaluators.dispatcher,
                corpus=corpus,
                states=str(directory.path / "states"),
                trials=str(directory.path / "trials"),
            )
            searcher = StudySearcher(studies, directory)
            ceilings = _ask_ceilings(search, evaluators)
            with Watch(search, directory, pools, searcher, on_progress, on_message):
                _tune(search, studies, searcher, pools, directory)
                _report_scores(search, directory, evaluators, on_message)
                directory.write_ceilings(_measured(ceilings, on_message))
    _write_best(search, directory)
    # A resumed search took as long as its trials say; this process saw only the end of it.
    wall_s = None if resumed else time.time() - began
    summary = summarise_search(search, directory.path, wall_s=wall_s)
    failed = search.total_trials - summary["trials"]
    if failed:
        on_message(
            f"{failed} trials could not be run, see {directory.path}/failures.jsonl; "
            "--resume tries again"
        )
    write_summary(directory.summary, summary)
    return summary


def _tune(
    search: SearchConfig,
    studies: dict[str, LanguageStudy],
    searcher: StudySearcher,
    pools: Pools,
    directory: RunDirectory,
) -> None:
    """Run the trials that are still missing through one Tune run."""
    missing = sum(
        search.trials_of(language) - len(study.finished()) for language, study in studies.items()
    )
    if missing <= 0:
        return
    resources = search.base.resources
    trainable = tune.with_resources(
        tune.with_parameters(
            Trial, pools=pools, search=search, promotion=FullFidelity(search.fidelity.segments)
        ),
        # An empty bundle is rejected; the pools hold the resources, a trial only asks them.
        {"CPU": 0.001},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=missing,
            # Trainers work on one trial while another is being evaluated.
            max_concurrent_trials=resources.trainers + resources.evaluators,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(directory.path / "ray"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
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
    directory: RunDirectory,
    evaluators: EvaluatorPool,
    on_message: Callable[[str], None],
) -> None:
    """Score the fixed runs and the best of each language on the split that chose nothing."""
    config = search.base.evaluation
    if config.report_split == config.split:
        return
    results = latest(directory.read())
    known = {(r.language, r.trial) for r in results if r.split == config.report_split}
    wanted: list[Result] = []
    for language in search.languages:
        mine = [
            r for r in results
            if r.language == language and r.split == config.split and r.status == "complete"
        ]  # fmt: skip
        winner = best(mine)
        chosen = {r.trial: r for r in mine if r.reference is not None}
        if winner is not None:
            chosen[winner.trial] = winner
        wanted += [r for key, r in chosen.items() if (language, key) not in known]

    if wanted:
        on_message(f"scoring {len(wanted)} models on {config.report_split}: fixed runs and best")

    def evaluate(result: Result) -> tuple[Result, Evaluation, float]:
        run = search.run_for(result.language, result.overrides)
        job = EvaluationJob(
            model=str(Path(result.extra["state"]) / "model"),
            corpus=str(Path(search.base.corpus.path).resolve()),
            language=result.language,
            split=config.report_split,
            config=run.evaluation,
            interleaving=Interleaving(**run.interleaving.model_dump()),
        )
        label = f"{result.language}#{result.trial}"
        began = time.time()
        served = ray.get(evaluators.dispatcher.run.remote(job, label))
        return result, served.result, began

    # Threads only wait here: the evaluators do the work.
    with ThreadPoolExecutor(max_workers=16) as waiting:
        for result, evaluation, started in waiting.map(evaluate, wanted):
            trial = directory.path / "trials" / f"{result.language}-{result.trial:03d}"
            evaluation.write(trial / f"hypotheses-{config.report_split}.jsonl")
            directory.append({
                **result.as_dict(),
                **evaluation.record(config),
                "split": config.report_split,
                "evaluate_seconds": evaluation.seconds,
                "overhead_seconds": 0.0,
                "wait_seconds": 0.0,
                "started": started,
                "ended": time.time(),
            })  # fmt: skip


def _write_best(search: SearchConfig, directory: RunDirectory) -> None:
    """Write the config to train each language's final model with."""
    results = directory.read()
    for language in search.languages:
        split = search.base.evaluation.split
        winner = best([r for r in results if r.language == language and r.split == split])
        if winner is None:
            raise SearchFailed(
                f"no trial of {language!r} has a score; see {directory.path}/failures.jsonl, then "
                "go on with --resume"
            )
        run = search.run_for(language, winner.overrides, name=f"{search.name}-{language}-final")
        directory.write_best(
            language, run,
            f"Best of {search.trials_of(language)} trials: ASR-BLEU {winner.asr_bleu:.1f} "
            f"[{winner.ci[0]:.1f}, {winner.ci[1]:.1f}] on {winner.split}, {winner.signature}",
        )  # fmt: skip
