"""Measure what raystt keeps books with, over 10,000 trials of which none trains anything.

    python benchmarks/bookkeeping.py [--trials 10000] [--sampler random] [--save]

The real Tune, searcher, journal, results and loggers, in the space of `search_spaces/cvss.yaml`
(one that is used up takes nine draws a proposal). A played broker and dispatcher answer at once,
one trial at a time: of several that end sooner than a process starts, Tune starts a process for
each, and what was measured would be those. Printed are the seconds a thousand trials took, by the
clock and of the driver's CPU time (which a busy machine lengthens less), and the driver's memory
after each thousand. What is asked: the last thousand within 1.3 of the second, and memory bounded.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import yaml
from record import save

from raystt.cluster.start import ray_session
from raystt.config import SearchConfig
from raystt.evaluation.jobs import Evaluation, EvaluationJob, Sentence
from raystt.pools.broker import Activity, Served
from raystt.searching import experiment
from raystt.searching.claim import claimed
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools
from raystt.searching.run import _tune
from raystt.searching.searcher import StudySearcher
from raystt.training.jobs import SegmentJob, SegmentResult

HEARD = Sentence("id", "a cat", "a cat", None, None, 3, 0, 0.2, None)
THOUSAND = 1000
ROOT = Path(__file__).resolve().parents[1]


class Broker:
    """Trains nothing; a schedule has a state of its own, as if it had been trained."""

    async def run(self, job: SegmentJob, label: str) -> Served:
        """Answer at once."""
        state = f"{job.states}/{job.run.fingerprint()}"
        return Served(SegmentResult(
            state=state, status="complete", start=job.start, stop=job.stop, seconds=0.0,
            setup_seconds=0.0, tokens=123, loss=1 / 3, achieved_words=0.4, achieved_tokens=0.1,
        ), 0.0)  # fmt: skip

    async def activity(self) -> list[Activity]:
        """Nothing is ever found at work."""
        return []


class Dispatcher:
    """Hears more or less of a sentence."""

    async def run(self, job: EvaluationJob, label: str) -> Served:
        """Answer at once."""
        good = int(Path(job.model).parent.name, 16) % 3  # a state's name is a hash
        statistics = np.array([[9, 9, 6 + good, 5, 4, 3, 9, 8, 7, 6]] * 4, np.int64)
        return Served(Evaluation(
            language=job.language, split=job.split, sentences=(HEARD,) * 4, statistics=statistics,
            chrf=np.full((4, 18), 5 + good, np.int64), texts={}, signature="played",
            signatures={"chrf": "played"}, seconds=0.0,
        ), 0.0)  # fmt: skip

    async def activity(self) -> list[Activity]:
        """Nothing is ever found at work."""
        return []


def config(path: Path, trials: int, sampler: str) -> SearchConfig:
    """Return a search of so many trials of one language."""
    return SearchConfig.model_validate({
        "name": "books", "languages": ["es"], "trials": trials,
        "sampler": sampler,
        "space": yaml.safe_load((ROOT / "search_spaces" / "cvss.yaml").read_text())["space"],
        "base": {
            "corpus": {"path": str(path / "corpus"), "languages": {"es": {"train": 12}}},
            "storage": str(path), "evaluation": {"resamples": 100},
            "resources": {"cpus": 2, "trainers": 2, "evaluators": 2},
        },
    })  # fmt: skip


def measure(trials: int, sampler: str) -> dict[str, Any]:
    """Run the search and return seconds and megabytes after each thousand trials."""
    points: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="raystt-books-") as place:
        search = config(Path(place), trials, sampler)
        with (
            claimed(search, resume=False, overwrite=False) as directory,
            ray_session(search.base.resources, pools=False),
        ):
            ledger = Ledger(search, directory, print)
            searcher = StudySearcher(search, directory.journal, ledger)
            searcher.concurrent = 1
            actors = [
                ray.remote(kind).options(num_cpus=0).remote() for kind in (Broker, Dispatcher)
            ]
            broker, dispatcher = actors
            pools = Pools(broker, dispatcher, corpus="", states=str(directory.states),
                          trials=str(directory.trials))  # fmt: skip
            ended = threading.Event()

            def watch() -> None:
                while not ended.wait(1.0):
                    done = len(ledger.finished())
                    if done >= THOUSAND * (len(points) + 1):
                        memory = psutil.Process().memory_info().rss / 1e6
                        points.append((time.perf_counter(), time.process_time(), memory))
                        print(f"{done} trials, driver {memory:.0f} MB", flush=True)

            thread = threading.Thread(target=watch)
            thread.start()
            began, worked = time.perf_counter(), time.process_time()
            _tune(search, ledger, searcher, pools, directory, experiment.callbacks([]))
            whole = time.perf_counter() - began
            time.sleep(1.5)
            ended.set()
            thread.join()
    clock = [began, *(moment for moment, _, _ in points)]
    driver = [worked, *(moment for _, moment, _ in points)]
    seconds, cpu = (
        [round(b - a, 2) for a, b in itertools.pairwise(times)] for times in (clock, driver)
    )
    return {
        "trials": trials, "sampler": sampler, "seconds": round(whole, 1),
        "seconds_a_thousand": seconds, "driver_cpu_seconds_a_thousand": cpu,
        "megabytes": [round(memory) for *_, memory in points],
        # The first thousand starts Ray's processes.
        "last_over_second": round(seconds[-1] / seconds[1], 2) if len(seconds) > 2 else None,
        "last_over_second_cpu": round(cpu[-1] / cpu[1], 2) if len(cpu) > 2 else None,
    }  # fmt: skip


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", choices=["random", "tpe"], default="random")
    parser.add_argument("--save", action="store_true", help="write into benchmarks/results/")
    options = parser.parse_args()
    result = measure(options.trials, options.sampler)
    for key, value in result.items():
        print(f"{key}: {value}")
    if options.save:
        save(
            "bookkeeping", "the second thousand of the same search",
            {"sampler": options.sampler, "trials": options.trials}, [result],
            packages=["ray", "optuna"],
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
