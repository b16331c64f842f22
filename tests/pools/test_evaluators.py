"""The evaluator pool on a real Ray, where the models of an evaluator cannot be loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray
import torch
from ray.util.state import list_actors
from tiny import heard_corpus, tiny_corpus

from raystt.config import EvaluationConfig, ResourcesConfig
from raystt.evaluation.jobs import EvaluationJob
from raystt.interleaving.rules import Interleaving
from raystt.pools.broker import Served, served
from raystt.pools.dispatcher import Dispatcher
from raystt.pools.errors import JobFailed
from raystt.pools.evaluator import Evaluator
from raystt.pools.evaluators import EvaluatorPool
from raystt.training.device import NoGpu
from raystt.vocoder.spectrum import VocoderError


def test_what_is_wrong_with_an_evaluator_is_told_as_it_is(ray_local: str, tmp_path: Path) -> None:
    tiny_corpus(tmp_path)
    resources = ResourcesConfig(evaluators=1, cpus_per_evaluator=0.25)
    with EvaluatorPool(str(tmp_path), EvaluationConfig(), resources) as pool:
        with pytest.raises(VocoderError):
            pool.wait_until_ready()
        (actor,) = list_actors(address=ray_local, detail=True, filters=[
            ("class_name", "=", "Evaluator"), ("state", "=", "ALIVE")
        ])  # fmt: skip
        assert actor.repr_name == "evaluator-0"


def test_a_pool_grows_and_shrinks_while_it_works(ray_local: str, tmp_path: Path) -> None:
    heard_corpus(tmp_path)
    config = EvaluationConfig(max_new_tokens=4, resamples=100)
    resources = ResourcesConfig(evaluators=1, cpus_per_evaluator=0.25)
    job = EvaluationJob(str(tmp_path / "base"), "es", "dev", config, Interleaving())

    def most_at_once(asked: list[ray.ObjectRef[Served]]) -> int:
        seen = 0
        while len(ray.wait(asked, num_returns=len(asked), timeout=0.05)[0]) < len(asked):
            seen = max(seen, len(ray.get(pool.dispatcher.activity.remote())))
        return seen

    with EvaluatorPool(str(tmp_path), config, resources) as pool:
        pool.wait_until_ready()
        pool.resize(2)
        pool.introduce()
        asked = [pool.dispatcher.run.remote(job, f"es#{n}") for n in range(4)]
        assert most_at_once(asked) == 2
        # One ends that is at work, more often than an evaluation may lose its evaluator.
        for _ in range(4):
            asked += [pool.dispatcher.run.remote(job, f"es#{n}") for n in range(2)]
            while len(ray.get(pool.dispatcher.activity.remote())) < 2:
                pass
            pool.resize(1)
            assert most_at_once(asked) <= 1
            pool.resize(2)
            pool.introduce()
        pool.resize(1)
        found = [one.result.sentences for one in ray.get(asked)]
        assert all(len(one) == 4 and one == found[0] for one in found)
        assert ray.get(pool.dispatcher.absences.remote()) == []
        (actor,) = list_actors(address=ray_local, filters=[
            ("class_name", "=", "Evaluator"), ("state", "=", "ALIVE")
        ])  # fmt: skip


@ray.remote(concurrency_groups={"control": 1}, num_cpus=0.25, max_restarts=-1)
class Broken:
    """An evaluator whose GPU gives nothing any more."""

    @ray.method(concurrency_group="control", max_task_retries=-1)
    def ping(self) -> int:
        return 0

    def evaluate(self, note: Path) -> None:
        with note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        raise RuntimeError("CUDA error: an illegal memory access\nand more")


def test_an_evaluator_that_may_be_broken_is_started_anew(ray_local: str, tmp_path: Path) -> None:
    """What goes wrong in one process may go well in another; asked for twice, it is done once."""
    broken = Broken.options(name="broken").remote()
    dispatcher = ray.remote(Dispatcher).options(num_cpus=0, max_concurrency=9).remote(
        ["broken"], 300.0
    )  # fmt: skip
    for asked in [dispatcher.run.remote(tmp_path / "processes", "es#0") for _ in range(2)]:
        with pytest.raises(JobFailed, match=r"es#0: .* failed 3 times \(CUDA error: .*access\)"):
            served(asked)
    processes = (tmp_path / "processes").read_text().split()
    assert len(processes) == len(set(processes)) == 3
    for actor in (dispatcher, broken):
        ray.kill(actor)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_an_evaluator_without_its_gpu_is_refused(tmp_path: Path) -> None:
    resources = ResourcesConfig(gpus_per_evaluator=0.5)
    with pytest.raises(NoGpu, match=r"resources\.gpus_per_evaluator: 0\.5"):
        Evaluator(0, str(tmp_path), EvaluationConfig(), resources).ready()
