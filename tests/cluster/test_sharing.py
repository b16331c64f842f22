"""A cluster of two nodes: one joins while a session waits, and both must share directories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, os, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from ray.experimental.internal_kv import _internal_kv_get
from raystt.cluster.start import ray_session
from raystt.config import ResourcesConfig
from raystt.errors import BadInput

place = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
asked = []
found = {"told": []}

def tell(text):
    found["told"].append(text)
    asked.append(_internal_kv_get("autoscaler_resource_request"))
    if len(cluster.worker_nodes) == 0:
        cluster.add_node(num_cpus=2)

def session(shared=(), **keys):
    keys = {"cpus_per_worker": 2.0, "trainers": 1, "address": cluster.address, **keys}
    return ray_session(ResourcesConfig(**keys), shared=shared, on_message=tell)

def refused(*shared, **keys):
    try:
        with session(shared, **keys):
            return "nothing"
    except BadInput as error:
        return f"{type(error).__name__}: {error}"

found["at once"] = refused()
with session([place / "store"], wait_for_nodes=300.0):
    found["nodes"] = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked.append(_internal_kv_get("autoscaler_resource_request"))
found["asked"] = [json.loads(one) for one in asked]
found["left"] = os.listdir(place / "store")
found["in vain"] = refused(trainers=2, wait_for_nodes=0.1)
os.chdir(place)  # where only this process is
found["apart"] = refused(Path("/proc/self/cwd/store"))
print("FOUND", json.dumps(found))
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path_factory.mktemp("shared"))],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert len(lines) == 1, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND "))
    return found


@pytest.mark.ray
def test_a_session_waits_for_a_node(found: dict[str, Any]) -> None:
    assert found["at once"].startswith("ClusterTooSmall: ")
    first, *others = found["told"]
    for part in ("waiting for nodes", "worker of a trainer (2 CPU)", "1 x (1 CPU, 0 GPU)"):
        assert part in first
    assert len(found["nodes"]) == 2
    # an autoscaler was asked for all that is needed, and then for nothing any more
    during, after = found["asked"][0], found["asked"][1]
    assert {"CPU": 2.0} in during and after == []
    assert "in vain" in found and "waited" in found["in vain"]
    assert others  # told of that wait, too


@pytest.mark.ray
def test_every_node_must_see_what_the_driver_writes(found: dict[str, Any]) -> None:
    assert found["left"] == []
    kind, path, reason = found["apart"].split(": ", 2)
    assert (kind, path) == ("NotShared", "/proc/self/cwd/store")
    assert any(node[:8] in reason for node in found["nodes"])
    assert "No such file" in reason and "mount" in reason
