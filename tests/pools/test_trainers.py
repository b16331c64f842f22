"""The trainer pool on a real Ray: Ray Train groups, Ray Data streams, two-worker groups."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.train.v2._internal.state.state_actor import (
    TRAIN_STATE_ACTOR_NAME,
    TRAIN_STATE_ACTOR_NAMESPACE,
)
from ray.util.state import list_actors, list_tasks
from ray.util.state.common import TaskState
from safetensors.torch import load_file
from tiny import tiny_corpus, tiny_run

from raystt.config import ResourcesConfig
from raystt.corpus.card import Card
from raystt.pools.stream import stream_batches
from raystt.pools.trainers import TrainerPool
from raystt.training.jobs import SegmentJob, SegmentResult
from raystt.training.segment import read_locally, train_segment

RESOURCES = ResourcesConfig(
    cpus=2, trainers=1, workers_per_trainer=2, cpus_per_worker=0.5, evaluators=1,
    cpus_per_evaluator=0.25, data_cpus=0.5,
)  # fmt: skip


def segment(path: Path, states: str, stop: int = 6, **training) -> SegmentJob:
    return SegmentJob(
        tiny_run(path, **training), str(path), 0, stop, None, str(path.parent / states)
    )


def test_ray_data_gives_the_batches_of_a_plain_loop(ray_local: str, tmp_path: Path) -> None:
    card = tiny_corpus(tmp_path / "corpus", shards=(7, 5, 6))
    job = segment(tmp_path / "corpus", "states", steps=30)
    local = list(read_locally(job, card))
    streamed = list(stream_batches(job, Card.load(tmp_path / "corpus"), cpus=0.25, patience=300.0))
    assert len(local) == len(streamed) == 6
    assert all(a.equals(b) for a, b in zip(local, streamed, strict=True))


def tasks(dashboard: str) -> list[TaskState]:
    """What Ray's dashboard lists, once it was told of a segment."""
    for _ in range(100):
        listed = list_tasks(address=dashboard, limit=10_000)
        if any(task.name.startswith("trainer-") for task in listed):
            break
        time.sleep(0.2)
    return listed


@pytest.mark.long
def test_a_pool_that_is_starting_can_be_stopped(ray_local: str, tmp_path: Path) -> None:
    """Its group, which comes up later, ends as well: it would hold its CPUs for ever."""
    pool = TrainerPool(RESOURCES.model_copy(update={"workers_per_trainer": 1}), tmp_path / "ray")
    pool.stop()
    for _ in range(600):
        if not any(thread.is_alive() for thread in pool._threads):
            break
        time.sleep(0.2)
    alive = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
    assert not list_actors(address=ray_local, filters=alive)


@pytest.mark.long
def test_a_pool_grows_while_it_works(ray_local: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    tiny_corpus(path)
    one = RESOURCES.model_copy(update={"workers_per_trainer": 1})
    with TrainerPool(one, tmp_path / "ray") as pool:
        pool.wait_until_ready()
        pool.grow(2)
        ray.get(pool.broker.expect.remote(2))
        while ray.get(pool.broker.absences.remote()):  # the second is missed until it is there
            time.sleep(0.2)
        jobs = [segment(path, f"states-{n}", steps=90 + n, stop=90 + n) for n in range(4)]
        asked = [pool.broker.run.remote(job, f"es#{n}") for n, job in enumerate(jobs)]
        seen = 0
        while len(ray.wait(asked, num_returns=4, timeout=0.05)[0]) < 4:
            seen = max(seen, len(ray.get(pool.broker.activity.remote())))
        assert [one.result.stop for one in ray.get(asked)] == [90, 91, 92, 93]
        assert seen == 2


def terminated(pool: TrainerPool, dashboard: str, job: SegmentJob) -> SegmentResult:
    """Train a segment whose worker, or one of whose workers, gets SIGTERM on its way."""

    def steps() -> int:
        doing = ray.get(pool.broker.activity.remote())
        return doing[0].step.step if doing and doing[0].step else 0

    asked = pool.broker.run.remote(job, "es#2")
    restarts = ray.get(pool.broker.restarts.remote())
    while (before := steps()) < 60:
        time.sleep(0.05)
    alive = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
    workers = list_actors(address=dashboard, detail=True, filters=alive)
    os.kill(max(worker.pid for worker in workers), signal.SIGTERM)
    while ray.get(pool.broker.restarts.remote()) == restarts:
        assert not ray.wait([asked], timeout=0.1)[0]
    while not (after := steps()):
        time.sleep(0.05)
    assert after > before
    result: SegmentResult = ray.get(asked).result
    # No checkpoint is left.
    assert [path.name for path in Path(job.states).iterdir()] == [Path(result.state).name]
    return result


@pytest.mark.long
def test_a_worker_that_is_terminated_loses_no_step(ray_local: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    tiny_corpus(path)
    one = RESOURCES.model_copy(update={"workers_per_trainer": 1})
    with TrainerPool(one, tmp_path / "ray") as pool:
        pool.wait_until_ready()
        result = terminated(pool, ray_local, segment(path, "pool", steps=400, stop=400))
    alone = train_segment(segment(path, "alone", steps=400, stop=400))
    mine, theirs = (load_file(r.model / "model.safetensors") for r in (alone, result))
    assert all((theirs[name] == tensor).all() for name, tensor in mine.items())
    assert (result.tokens, result.loss) == (alone.tokens, alone.loss)


def test_a_group_of_two_trains_what_one_process_does(ray_local: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    tiny_corpus(path)
    # No dropout: its random numbers are each rank's own.
    options = {"dropout": 0.0, "zero_stage": 1}
    with TrainerPool(RESOURCES, tmp_path / "ray") as pool:
        pool.wait_until_ready()
        served = ray.get(pool.broker.run.remote(segment(path, "pool", **options), "es#0"))
        bad = pool.broker.run.remote(segment(tmp_path / "missing", "pool", **options), "es#1")
        with pytest.raises(ray.exceptions.RayTaskError, match="missing"):
            ray.get(bad)
        # The group came back after the error, and finds the finished segment.
        again = ray.get(pool.broker.run.remote(segment(path, "pool", **options), "es#0"))
        long = {**options, "steps": 400, "stop": 400}
        broken_off = terminated(pool, ray_local, segment(path, "broken", **long))
        assert {"broker.run", "trainer-0: es#0"} <= {task.name for task in tasks(ray_local)}
        # What the dashboard's view of Ray Train shows.
        state = ray.get_actor(TRAIN_STATE_ACTOR_NAME, namespace=TRAIN_STATE_ACTOR_NAMESPACE)
        shown = ray.get(state.get_train_runs.remote()).values()
        assert "trainer-0" in [run.name for run in shown if run.status.value == "RUNNING"]
    result: SegmentResult = served.result
    assert again.result == replace(result, reused=True)
    alone = train_segment(segment(path, "alone", **options))
    unbroken = train_segment(segment(path, "unbroken", **long))
    assert broken_off.tokens == unbroken.tokens
    assert broken_off.loss == pytest.approx(unbroken.loss, rel=0.05)
    assert result.tokens == alone.tokens and result.achieved_words == alone.achieved_words
    assert result.loss == pytest.approx(alone.loss, rel=1e-4)
    mine, theirs = (load_file(r.model / "model.safetensors") for r in (alone, result))
    for name, tensor in mine.items():
        assert theirs[name].allclose(tensor, atol=1e-4), name
