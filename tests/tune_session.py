"""One session of a search over the real Tune and Optuna; trainers and evaluators are played.

`python tune_session.py DIRECTORY KILL_AFTER` runs the trials that are missing, and kills itself
with SIGKILL once it has written KILL_AFTER results (0: goes on to the end).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import ray
from tiny import tiny_search

from raystt.cluster.start import ray_session
from raystt.config import SearchConfig
from raystt.evaluation.jobs import Evaluation, EvaluationJob, Sentence
from raystt.pools.broker import Activity, Served
from raystt.results import Result
from raystt.searching import experiment, tracking
from raystt.searching.claim import claimed
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools
from raystt.searching.reconcile import reconcile
from raystt.searching.run import _tune
from raystt.searching.searcher import StudySearcher
from raystt.training.jobs import SegmentJob, SegmentResult, Step

TRIALS = 5
HEARD = Sentence("id", "a cat", "a cat", None, None, 3, 0, 0.2, None)


def search(path: Path, **changes: object) -> SearchConfig:
    return tiny_search(path, trials=TRIALS, name="played", **changes)


class Broker:
    """Trains nothing; the name of a state says how well its schedule would do.

    Its first job is not done before somebody was told of a step of it.
    """

    def __init__(self) -> None:
        self._first: str | None = None
        self._told = asyncio.Event()

    async def run(self, job: SegmentJob, label: str) -> Served:
        if self._first is None:
            self._first = label
            await self._told.wait()
        await asyncio.sleep(0.2)
        state = f"{job.states}/{round(1e6 * job.run.schedule.end / 3)}"
        return Served(SegmentResult(
            state=state, status="complete", start=job.start, stop=job.stop, seconds=0.1,
            setup_seconds=0.01, tokens=123, loss=1 / 3, achieved_words=0.4, achieved_tokens=0.1,
        ), 0.0)  # fmt: skip

    async def activity(self) -> list[Activity]:
        if self._first is None:
            return []
        self._told.set()
        return [Activity(self._first, Step(1, 2, 0.5, 0.4, 3.0, 60, 0.05))]


class Dispatcher:
    """Hears more or less of a sentence."""

    async def run(self, job: EvaluationJob, label: str) -> Served:
        good = int(Path(job.model).parent.name)
        statistics = np.array([[9, 9, 6 + good % 3, 5, 4, 3, 9, 8, 7, 6]] * 4, np.int64)
        return Served(Evaluation(
            language=job.language, split=job.split, sentences=(HEARD,) * 4, statistics=statistics,
            chrf=np.full((4, 18), 5 + good % 3, np.int64), texts={}, signature="played",
            signatures={"chrf": "played"}, seconds=0.05,
        ), 0.0)  # fmt: skip

    async def activity(self) -> list[Activity]:
        return []


class Dying(Ledger):
    """Kills the driver between a result's line and the journal."""

    kill_after = 0

    def add(self, result: Result) -> None:
        super().add(result)
        if len(self.finished()) == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def main(path: Path, kill_after: int, **changes: object) -> None:
    config = search(path, **changes)
    with (
        claimed(config, resume=True, overwrite=False) as directory,
        ray_session(config.base.resources.model_copy(update={"cpus": 2}), pools=False),
    ):
        reconcile(config, directory, print)
        ledger = Dying(config, directory, print)
        ledger.kill_after = kill_after
        searcher = StudySearcher(config, directory.journal, ledger)
        sizes = config.base.resources
        searcher.concurrent = sizes.trainers + sizes.evaluators
        actors = [ray.remote(kind).options(num_cpus=0).remote() for kind in (Broker, Dispatcher)]
        pools = Pools(*actors, corpus="", states=str(directory.states),
                      trials=str(directory.trials))  # fmt: skip
        callbacks = experiment.callbacks(tracking.trackers(config, directory.path))
        _tune(config, ledger, searcher, pools, directory, callbacks)
        # Of finished trials, nothing is left where Tune would copy it again and again.
        written = Path(ray._private.worker.global_worker.node.get_session_dir_path(), "artifacts")
        assert list(written.rglob("driver_artifacts")) and not list(written.rglob("result.json"))


def session(path: Path, kill_after: int = 0, *trackers: str, **environment: str) -> int:
    """Run one as a process of its own and return its exit status."""
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(kill_after), *trackers],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


if __name__ == "__main__":
    trackers = {"tracking": sys.argv[3:]} if sys.argv[3:] else {}
    main(Path(sys.argv[1]), int(sys.argv[2]), **trackers)
