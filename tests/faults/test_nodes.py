"""Nodes that come and go beneath real searches: raylets of their own, with their own resources."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults.conftest import ROUNDS, Faults, Start, Table, assert_whole
from ray.cluster_utils import Cluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not ROUNDS, reason="`make faults` runs it"),
]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that computes nothing; the driver and what all depends on are there."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    made.shutdown()


def on_node(node: Any, title: str) -> list[int]:
    """Return the Ray workers of a node that have `title` in their names."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found = []
    for process in raylet.children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def kill_node(cluster: Cluster, node: Any) -> None:
    """Let a node die as a machine does: its raylet, and the workers that would outlive it."""
    left = on_node(node, "ray::")
    cluster.remove_node(node, allow_graceful=False)
    for pid in left:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_lost_nodes_with_and_without_spare_capacity(
    start: Start, faults: Faults, undisturbed: Table, seed: int, cluster: Cluster
) -> None:
    chance = random.Random(500 + seed)
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    search = start(address=cluster.address, patience=120)
    for spare in (True, False):
        search.wait_for_results(len(search.results()) + 1)
        time.sleep(chance.uniform(0.0, 3.0))
        done = len(search.results())
        faults.throw(f"a lost node {'with' if spare else 'without'} spare capacity")
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
        if not spare:
            search.wait_for("has waited")
            nodes.append(cluster.add_node(num_cpus=2))
        faults.goes_on(search, done)
    search.wait()
    assert_whole(search, undisturbed)
    faults.survived()


def test_a_trial_on_two_nodes_loses_one_and_gets_another(
    start: Start, faults: Faults, undisturbed: Table, seed: int, cluster: Cluster
) -> None:
    """A node holds one worker or one evaluator, so that a group of two is on two of them."""
    chance = random.Random(700 + seed)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    search = start(
        address=cluster.address, patience=120, cpus_per_worker=0.75, cpus_per_evaluator=0.75,
        evaluators=1, data_cpus=0.2,
    )  # fmt: skip
    search.wait_for_results(1)
    trainers = [node for node in nodes if on_node(node, "ray::RayTrainWorker")]
    assert len(trainers) == 2, "the workers of the group are on one node"
    (other,) = [node for node in nodes if node not in trainers]
    assert on_node(other, "ray::Evaluator")
    time.sleep(chance.uniform(0.0, 5.0))
    done = len(search.results())
    faults.throw("a node of a group on two nodes")
    kill_node(cluster, chance.choice(trainers))
    search.wait_for("has waited")
    cluster.add_node(num_cpus=1)
    faults.goes_on(search, done)
    search.wait()
    assert_whole(search, undisturbed)
    faults.survived()


def test_the_trainer_that_is_left_does_the_work_of_the_other(
    start: Start, faults: Faults, undisturbed: Table, seed: int, cluster: Cluster
) -> None:
    """A node holds one of two groups; one is lost, and nothing comes in its place."""
    chance = random.Random(1100 + seed)
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    search = start(
        address=cluster.address, patience=120, trainers=2, cpus_per_worker=0.75,
        cpus_per_evaluator=0.25, evaluators=1, data_cpus=0.2,
    )  # fmt: skip
    search.wait_for_results(1)
    assert all(on_node(node, "ray::RayTrainWorker") for node in nodes)
    time.sleep(chance.uniform(0.0, 5.0))
    done = len(search.results())
    faults.throw("a node of one of two trainers, for good")
    kill_node(cluster, chance.choice(nodes))
    faults.goes_on(search, done)
    search.wait()
    assert_whole(search, undisturbed)
    faults.survived()


def test_a_drained_node_is_left_before_it_goes(
    start: Start, faults: Faults, undisturbed: Table, seed: int, cluster: Cluster
) -> None:
    chance = random.Random(900 + seed)
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    search = start(address=cluster.address, patience=120)
    search.wait_for_results(1)
    time.sleep(chance.uniform(0.0, 5.0))
    node = next(node for node in nodes if on_node(node, "ray::RayTrainWorker"))
    done = len(search.results())
    faults.throw("a drained node")
    ray = str(Path(sys.executable).with_name("ray"))
    drain = [ray, "drain-node", "--address", cluster.address, "--node-id", node.node_id,
             "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
             "--deadline-remaining-seconds", "120"]  # fmt: skip
    subprocess.run(drain, check=True, timeout=60)
    limit = time.monotonic() + 100
    while on_node(node, "ray::RayTrainWorker"):
        assert time.monotonic() < limit, search.printed
        time.sleep(0.2)
    kill_node(cluster, node)
    faults.goes_on(search, done)
    search.wait()
    assert_whole(search, undisturbed)
    faults.survived()


def test_a_search_grows_with_its_cluster_and_shrinks(
    start: Start, faults: Faults, undisturbed: Table, seed: int, cluster: Cluster
) -> None:
    first = cluster.add_node(num_cpus=2)
    search = start(address=cluster.address, patience=120, auto=True)
    search.wait_for("trainers: 1, of 2 workers (0.5 CPU, 0 GPU each)")
    search.wait_for_results(1)
    cluster.add_node(num_cpus=2)
    search.wait_for("the cluster has grown: 2 trainers (before: 1), 4 evaluators (before: 2)")
    search.wait_for_results(3)
    done = len(search.results())
    faults.throw("a node of a cluster that had grown")
    kill_node(cluster, first)
    faults.goes_on(search, done)
    search.wait()
    assert "the cluster has changed: 2 trainers (before: 2), 2 evaluators (before: 4)" in (
        search.printed
    )
    assert_whole(search, undisturbed)
    faults.survived()
