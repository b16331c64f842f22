"""Run a search: prepare the corpus, start the pools, let Tune drive the studies, sum up."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raystt.cluster.broker import Activity
from raystt.cluster.evaluators import EvaluatorPool
from raystt.cluster.startup import ray_session
from raystt.cluster.trainers import TrainerPool
from raystt.evaluation.jobs import Evaluation, EvaluationJob
from raystt.prepare import prepare
from raystt.report.progress import LanguageProgress, Running, Snapshot
from raystt.report.results import Result, best, latest, write_summary
from raystt.schedule import from_dict
from raystt.search.fidelity import FullFidelity
from raystt.search.run_directory import RunDirectory
from raystt.search.searcher import StudySearcher
from raystt.search.study import LanguageStudy, open_journal
from raystt.search.summary import summarise_search
from raystt.search.trial import Pools, Trial
from raystt.space import SearchConfig
from raystt.thresholds import Interleaving

_SNAPSHOT_SECONDS = 1.0


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
        prepare(search.base.corpus, resources=resources, progress=on_prepare)
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
            pools = Pools(
                broker=trainers.broker,
                dispatcher=evaluators.dispatcher,
                corpus=corpus,
                states=str(directory.path / "states"),
                trials=str(directory.path / "trials"),
            )
            searcher = StudySearcher(studies, directory)
            with _Watch(search, directory, pools, searcher, on_progress, on_message):
                _tune(search, studies, searcher, pools, directory)
                _report_scores(search, directory, evaluators)
    _write_best(search, directory)
    # A resumed search took as long as its trials say; this process saw only the end of it.
    wall_s = None if resumed else time.time() - began
    summary = summarise_search(search, directory.path, wall_s=wall_s)
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
    missing = sum(search.trials - len(study.finished()) for study in studies.values())
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


def _report_scores(
    search: SearchConfig, directory: RunDirectory, evaluators: EvaluatorPool
) -> None:
    """Score the references and the best of each language on the split that chose nothing."""
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
            score = evaluation.score(config)
            directory.append({
                **result.as_dict(),
                "split": config.report_split,
                "asr_bleu": score.asr_bleu,
                "ci": list(score.ci),
                "signature": score.signature,
                "sentences": score.sentences,
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
            f"Best of {search.trials} trials: ASR-BLEU {winner.asr_bleu:.1f} "
            f"[{winner.ci[0]:.1f}, {winner.ci[1]:.1f}] on {winner.split}, {winner.signature}",
        )  # fmt: skip


class _Watch:
    """A thread that looks at pools and studies and tells the progress."""

    def __init__(
        self,
        search: SearchConfig,
        directory: RunDirectory,
        pools: Pools,
        searcher: StudySearcher,
        on_progress: Callable[[Snapshot], None],
        on_message: Callable[[str], None],
    ) -> None:
        self._search, self._directory, self._pools = search, directory, pools
        self._searcher = searcher
        self._on_progress, self._on_message = on_progress, on_message
        self._began = time.time()
        self._done_before = len(self._finished())
        self._restarts = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:  # otherwise the pools may be gone
            self._tell()

    def _loop(self) -> None:
        while not self._ended.wait(_SNAPSHOT_SECONDS):
            self._tell()

    def _finished(self) -> list[Result]:
        split = self._search.base.evaluation.split
        return [r for r in latest(self._directory.read()) if r.split == split and r.final]

    def _tell(self) -> None:
        finished = self._finished()
        elapsed = time.time() - self._began
        total = self._search.trials * len(self._search.languages)
        done_now = len(finished) - self._done_before
        pace = elapsed / done_now if done_now else None
        running = self._running()
        self._on_progress(
            Snapshot(
                elapsed_s=elapsed,
                languages=tuple(self._language(name, finished) for name in self._search.languages),
                running=running,
                left_s=pace * (total - len(finished)) if pace else None,
            )
        )
        restarts = ray.get(self._pools.broker.restarts.remote())
        if restarts > self._restarts:
            self._restarts = restarts
            self._on_message("a trainer was lost and came back; its segment is trained again")

    def _language(self, name: str, finished: list[Result]) -> LanguageProgress:
        mine = [r for r in finished if r.language == name]
        winner = best(mine)
        return LanguageProgress(
            language=name,
            done=len(mine),
            total=self._search.trials,
            best=winner.asr_bleu if winner else None,
            best_schedule=from_dict(dict(winner.schedule)).label() if winner else "",
        )

    def _running(self) -> tuple[Running, ...]:
        training = ray.get(self._pools.broker.activity.remote())
        evaluating = ray.get(self._pools.dispatcher.activity.remote())
        known = self._searcher.running()

        def show(pool: str, activity: Activity) -> Running:
            language, _, number = activity.label.partition("#")
            proposal, step = known.get(activity.label), activity.step
            label = ""
            if proposal is not None:
                run = self._search.run_for(language, proposal.overrides)
                label = from_dict(run.schedule).label()
            return Running(
                pool=pool, language=language, trial=int(number), schedule=label,
                done=step.step if step else 0, total=step.horizon if step else 0,
                ratio=step.ratio if step else None, loss=step.loss if step else None,
            )  # fmt: skip

        return (
            *(show("train", a) for a in training),
            *(show("evaluate", a) for a in evaluating),
        )
