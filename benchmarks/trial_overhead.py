"""Measure what a trial costs beside its training: raystt's pools, and one Ray Train run a trial.

    python benchmarks/trial_overhead.py search_spaces/quickstart.yaml [--trials 6] [--save]

The reference is what Ray documents for Tune with Ray Train: a function of Tune that starts a
`TorchTrainer` for its trial. Both sides train the same schedules of one language with the same
code (`train_segment`, fed by Ray Data), one after the other, in one Ray, and score nothing: they
take turns, a batch of trials each. What a trial costs beside its optimiser steps is the time
between the ends of two trials, less its tokens at the pace of its log's later lines: a process'
first steps, and the wait for the first batch of Ray Data, are costs of the trial. The first of a
batch, which waits for Tune, and raystt's workers, which start once a search, are told apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
from bookkeeping import Dispatcher
from ray import tune
from record import save

import raystt
from raystt.cluster.start import ray_session
from raystt.config import SearchConfig, load_search
from raystt.pools.stream import stream_batches
from raystt.pools.trainers import TrainerPool
from raystt.searching import experiment
from raystt.searching.claim import claimed
from raystt.searching.directory import RunDirectory
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools
from raystt.searching.run import _tune
from raystt.searching.searcher import StudySearcher
from raystt.training.jobs import SegmentJob, whole_run
from raystt.training.segment import train_segment

PATIENCE = 600.0
Trained = tuple[float, float]
"""When a trial ended, Unix seconds, and the seconds of its optimiser steps."""


def with_pool(
    search: SearchConfig, directory: RunDirectory, trainers: TrainerPool
) -> list[Trained]:
    """Run all trials of a search through raystt's pool, by its own searcher and Tune."""
    ledger = Ledger(search, directory, print)
    searcher = StudySearcher(search, directory.journal, ledger)
    searcher.concurrent = 1
    dispatcher = ray.remote(Dispatcher).options(num_cpus=0).remote()
    pools = Pools(trainers.broker, dispatcher, corpus=search.base.corpus.path,
                  states=str(directory.states), trials=str(directory.trials))  # fmt: skip
    _tune(search, ledger, searcher, pools, directory, experiment.callbacks([]))
    found = []
    for result in ledger.finished():
        folder = directory.trials / result.proposal().folder
        found.append((result.ended, paced(folder)))
    return found


def paced(folder: Path) -> float:
    """Return the seconds that the steps of a trial take at the pace after its log's first line."""
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    pace = (last["seconds"] - first["seconds"]) / (last["tokens"] - first["tokens"])
    return float(pace * last["tokens"])


def work(config: dict[str, Any]) -> None:
    """Train one trial in the worker of its own group, and report it as Ray Train does."""
    job: SegmentJob = config["job"]
    trained = train_segment(
        job, batches=lambda job, card: stream_batches(job, card, cpus=0.5, patience=PATIENCE)
    )
    seconds = paced(Path(job.log or ""))
    ray.train.report({"seconds": seconds, "loss": trained.loss, "ended": time.time()})


def nested(jobs: list[SegmentJob], place: Path) -> list[Trained]:
    """Run trials as Ray documents it: a Ray Train run within each function of Tune."""

    def trial(config: dict[str, Any]) -> None:
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        TorchTrainer(
            work,
            train_loop_config={"job": config["job"]},
            scaling_config=ray.train.ScalingConfig(
                num_workers=1, resources_per_worker={"CPU": 0.5}
            ),
            run_config=ray.train.RunConfig(
                name=f"train-{tune.get_context().get_trial_id()}", storage_path=str(place),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()  # fmt: skip

    found = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.001}),
        param_space={"job": tune.grid_search(jobs)},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="nested", storage_path=str(place), verbose=0),
    ).fit()
    return sorted((one.metrics["ended"], one.metrics["seconds"]) for one in found)


def overheads(began: float, trained: list[Trained]) -> list[float]:
    """Return what each trial cost beside its steps; the first one with all that came before it."""
    ends = [began, *(ended for ended, _ in trained)]
    return [b - a - seconds for a, b, (_, seconds) in zip(ends, ends[1:], trained, strict=False)]


def smaller(path: Path, trials: int, steps: int, place: Path) -> SearchConfig:
    """Return a search of one language of a YAML, whose trials score nothing."""
    search = load_search(path)
    given = search.model_dump(mode="json", exclude_unset=True, by_alias=True)
    base = {**given["base"], "storage": str(place)}
    base["corpus"]["path"] = str(Path(base["corpus"].get("path", "data/embedded")).resolve())
    base["training"]["steps"] = steps
    base["resources"] = {"trainers": 1, "cpus_per_worker": 0.5, "data_cpus": 0.5}
    changes = {"name": "overhead", "languages": search.languages[:1], "trials": trials,
               "references": ["paper"], "ablations": {}, "confirm": {"top": 0}, "keep": "all",
               "base": base}  # fmt: skip
    return SearchConfig.model_validate({**given, **changes})


def measure(path: Path, trials: int, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the overheads in seconds, first trials apart, and those of the pool's start."""
    found: dict[str, list[float]] = {name: [] for name in (
        "start of the pool", "raystt, first", "raystt", "nested, first", "nested", "steps"
    )}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="raystt-overhead-") as folder:
        raystt.prepare(path)
        search = smaller(path, trials, steps, Path(folder, "0"))
        with ray_session(search.base.resources, pools=True):
            began = time.time()
            with TrainerPool(search.base.resources, Path(folder, "ray")) as trainers:
                trainers.wait_until_ready()
                found["start of the pool"].append(time.time() - began)
                for turn in range(rounds):
                    place = Path(folder, str(turn))
                    search = smaller(path, trials, steps, place)
                    with claimed(search, resume=False, overwrite=False) as directory:
                        began = time.time()
                        ours = with_pool(search, directory, trainers)
                        runs = [search.run_for(r.language, r.overrides) for r in directory.read()]
                    costs = overheads(began, ours)
                    found["raystt, first"] += costs[:1]
                    found["raystt"] += costs[1:]
                    corpus = Path(search.base.corpus.path)
                    jobs = [whole_run(run, corpus, place / f"run-{n}")
                            for n, run in enumerate(runs)]  # fmt: skip
                    began = time.time()
                    theirs = nested(jobs, place)
                    costs = overheads(began, theirs)
                    found["nested, first"] += costs[:1]
                    found["nested"] += costs[1:]
                    found["steps"] += [seconds for _, seconds in (*ours, *theirs)]
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path, help="YAML of a search; its corpus is prepared")
    parser.add_argument("--trials", type=int, default=4, help="a round and side")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="of a trial")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json")
    options = parser.parse_args()
    found = measure(options.space, options.trials, options.rounds, options.steps)
    median = {name: statistics.median(seconds) for name, seconds in found.items()}
    for name, seconds in found.items():
        print(f"{name}: {median[name]:.2f} s ({', '.join(f'{one:.2f}' for one in seconds)})")
    ratio = median["nested"] / median["raystt"]
    print(f"a trial costs {ratio:.1f} times less than a Ray Train run of its own")
    if options.save:
        rows = [{"what": name, "seconds": round(median[name], 3),
                 "all": [round(one, 3) for one in found[name]]} for name in found]  # fmt: skip
        save("trial_overhead", "one nested Ray Train run a trial",
             {"trials": options.trials, "rounds": options.rounds, "steps": options.steps,
              "ratio": round(ratio, 2)}, rows, packages=["ray", "torch"])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
