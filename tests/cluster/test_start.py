"""What a session of Ray lets reach the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
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


LISTENING = """
import json, os
import psutil
from raystt.cluster.start import ray_session
from raystt.cluster.train_group import train_in_group
from raystt.config import ResourcesConfig

def listening(process):
    try:
        return [c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return []

def named(process):
    try:
        return f"{process.name()} {' '.join(process.cmdline())}"[:200]
    except psutil.NoSuchProcess:
        return "ended"

def group(place, device):
    import torch.distributed as dist
    dist.barrier()
    with open(f"{place}-{dist.get_rank()}", "w") as file:
        json.dump([os.getpid(), listening(psutil.Process())], file)

resources = ResourcesConfig(cpus=2, encoders=2, cpus_per_encoder=0.5)
with ray_session(resources, pools=False):
    import ray
    ray.get(ray.remote(lambda: None).remote())
    found = {
        named(p): listening(p)
        for p in [psutil.Process(), *psutil.Process().children(recursive=True)]
    }
    train_in_group(group, os.environ["PLACE"], resources)
print("FOUND", json.dumps(found))
"""


def outer(found: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [
        (host, port)
        for host, port in found
        if not host.removeprefix("::ffff:").startswith(("127.", "::1"))
    ]


@pytest.mark.slow
def test_a_local_ray_listens_on_loopback_alone(tmp_path: Path) -> None:
    place = tmp_path / "group"
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PLACE": str(place)},
    )  # fmt: skip
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("FOUND ")] or [done.stderr]
    found = json.loads(line.removeprefix("FOUND "))
    for name in ("gcs_server", "raylet", "dashboard"):
        assert any(name in process and ports for process, ports in found.items()), found
    assert {process: outer(ports) for process, ports in found.items() if outer(ports)} == {}
    # What docs/guarantees.md says of a group: the store of its first rank, and nothing else.
    ranks = [json.loads(Path(f"{place}-{rank}").read_text())[1] for rank in range(2)]
    assert [len(outer(ports)) for ports in ranks] == [1, 0], ranks


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
