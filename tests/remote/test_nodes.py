"""A search on two nodes that share nothing but a store."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from searches import Search, small_search

from raystt import remote
from raystt.corpus.card import FILE_NAME
from raystt.training.jobs import LOG

RAY = Path(sys.executable).with_name("ray")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode != 0,
        reason="nothing can be mounted here",
    ),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def cluster(bucket: str, small_corpus: Path) -> Iterator[str]:
    """Two nodes of two CPUs; what lies in the cache is of each its own."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]  # of the Ray that other tests share
    os.environ["RAY_AUTH_MODE"] = "disabled"
    address, start = f"127.0.0.1:{free_port()}", f"{RAY} start --block --num-cpus=2"
    head = f"{start} --head --port={address.split(':')[1]} --dashboard-port={free_port()} "
    head += f"--ray-client-server-port={free_port()} --node-ip-address=127.0.0.1"
    here = remote.cache()
    here.mkdir()
    second = f"mount -t tmpfs tmpfs {shlex.quote(str(here))} && exec {start} --address={address}"
    commands = [shlex.split(head), ["unshare", "-m", "sh", "-c", second]]
    nodes = []
    try:
        for command in commands:
            nodes.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
            )
            answers(address)
        yield address
    finally:
        for node in reversed(nodes):
            node.terminate()
            try:
                node.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)


def answers(address: str) -> None:
    """Wait until a head does."""
    host, _, port = address.partition(":")
    limit = time.monotonic() + 120
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.5)


def test_nodes_with_copies_of_their_own_train_together(
    cluster: str, bucket: str, tmp_path: Path, small_corpus: Path
) -> None:
    """Two ranks on two nodes, each with a part of the optimiser's state, in two segments."""
    corpus = f"{bucket}/data/embedded"
    remote.publish(small_corpus / "embedded", remote.local(corpus), FILE_NAME)
    space, config = tmp_path / "small.yaml", small_search(tmp_path, tmp_path)
    config |= {"trials": None, "space": {}, "references": ["paper"], "fidelity": {"segments": 2}}
    base = config["base"]
    base["storage"], base["corpus"]["path"] = f"{bucket}/runs", corpus
    base["training"] |= {"steps": 20, "zero_stage": 1, "checkpoint_every": 5}
    base["resources"] = {
        "address": cluster, "workers_per_trainer": 2, "cpus_per_worker": 1.5, "trainers": 1,
        "evaluators": 1, "cpus_per_evaluator": 0.25, "data_cpus": 0.25, "wait_for_nodes": 60,
    }  # fmt: skip
    space.write_text(yaml.safe_dump(config, sort_keys=False))
    search = Search(space)
    try:
        search.wait()
    finally:
        search.end()
    (result,) = [r for r in search.results() if r.split == "dev"]
    assert result.status == "complete" and len(result.states) == 2
    log = (search.directory / "trials" / result.folder / LOG).read_text().splitlines()
    assert len(log) == 2, "of both segments, wherever rank 0 was"

    config["base"]["corpus"]["path"] = f"{bucket}/data/new"
    space.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "raystt.cli", "prepare", str(space)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "made on one node" in done.stderr, done.stderr
