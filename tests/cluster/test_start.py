"""What a session of Ray lets reach the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from raystt.cluster.train_group import train_in_group
from raystt.config import ResourcesConfig

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import logging
import sys
from raystt.cluster.start import ray_session
from raystt.config import ResourcesConfig

resources = ResourcesConfig(cpus=1)
with ray_session(resources, pools=False, verbose=True):
    import ray

    def work():
        print("the loss is 2.5")

    with ray_session(resources, pools=False):
        ray.get(ray.remote(work).remote())
    assert logging.getLogger("ray.tune").level == logging.INFO
    sys.stdin.read()  # what a worker prints takes a moment to come here
"""


@pytest.mark.ray
def test_verbose_lets_a_print_of_a_worker_reach_the_terminal() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        assert any("the loss is 2.5" in line for line in process.stdout)
    finally:
        process.stdin.close()
    assert process.wait() == 0


def outer(found: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [
        (host, port)
        for host, port in found
        if not host.removeprefix("::ffff:").startswith(("127.", "::1"))
    ]


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    try:
        connections = process.net_connections("tcp")
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return []
    return [tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN]


def named(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {' '.join(process.cmdline())}"[:200]
    except psutil.NoSuchProcess:
        return "ended"


def test_a_local_ray_listens_on_loopback_alone(ray_local: str) -> None:
    import ray

    ray.get(ray.remote(lambda: None).remote())
    mine = psutil.Process()
    found = {named(p): listening(p) for p in [mine, *mine.children(recursive=True)]}
    for name in ("gcs_server", "raylet", "dashboard"):
        assert any(name in process and ports for process, ports in found.items()), found
    assert {process: outer(ports) for process, ports in found.items() if outer(ports)} == {}


def test_a_local_ray_collects_no_metrics(ray_local: str) -> None:
    import ray

    assert [node["MetricsExportPort"] for node in ray.nodes()] == [-1]


def test_what_read_the_data_of_a_segment_is_there_for_the_next(ray_local: str) -> None:
    """Ray would end it within a second or two, as nothing is left of the CPUs."""
    import ray
    from ray.util import placement_group, remove_placement_group

    held = placement_group([{"CPU": 1.8}])
    ray.get(held.ready())
    read = ray.remote(num_cpus=0.1)(lambda: os.getpid())
    try:
        before = ray.get([read.remote() for _ in range(2)])
        time.sleep(3.0)
        assert ray.get(read.remote()) in before
    finally:
        remove_placement_group(held)


@pytest.fixture(scope="module")
def group(ray_local: str, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, int]]:
    """What each rank of a group of two found: where it listens, and how many workers there are."""

    def look(place: str, device: str) -> None:
        import torch.distributed as dist
        from ray.util.state import list_actors

        dist.barrier()
        ports = [
            c.laddr for c in psutil.Process().net_connections("tcp")
            if c.status == psutil.CONN_LISTEN
        ]  # fmt: skip
        alive = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
        found = [ports, len(list_actors(filters=alive))]
        Path(f"{place}-{dist.get_rank()}").write_text(json.dumps(found))
        dist.barrier()

    place = tmp_path_factory.mktemp("group") / "rank"
    train_in_group(look, str(place), ResourcesConfig(cpus=2, encoders=2, cpus_per_encoder=0.5))
    return [json.loads(Path(f"{place}-{rank}").read_text()) for rank in range(2)]


def test_a_group_listens_where_its_first_rank_keeps_a_store(group: list[tuple[Any, int]]) -> None:
    """As docs/guarantees.md says: the store, and nothing else."""
    assert [len(outer(ports)) for ports, _ in group] == [1, 0], group


def test_a_group_finds_its_own_cluster(group: list[tuple[Any, int]]) -> None:
    """Not the dead one beside whose record it was started; Ray Train's actors look, too."""
    assert [workers for _, workers in group] == [2, 2], group


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["disabled", "k8s"])
def test_a_local_ray_without_a_token_is_refused(mode: str) -> None:
    program = (
        "from raystt.cluster.start import ray_session, Unprotected\n"
        "from raystt.config import ResourcesConfig\n"
        "try:\n  with ray_session(ResourcesConfig(cpus=1), pools=False): print('started')\n"
        "except Unprotected as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": mode},
    )  # fmt: skip
    assert f"RAY_AUTH_MODE is '{mode}'" in done.stdout and "unset it" in done.stdout, done
