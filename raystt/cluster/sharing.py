"""See that all nodes of a cluster share a directory, before anything is trained."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from raystt import remote
from raystt.errors import BadInput

_NODE_SECONDS = 120.0  # a node's first worker may have to be started


class NotShared(BadInput):
    """A node does not see what the driver writes; the text names the node and the path."""


def check_shared(paths: Iterable[Path]) -> None:
    """Write a file under each path, and have it read on every node.

    The directories are made. Where there is one node alone nothing is done, nor in a directory that
    this process cannot write to.

    Raises:
        NotShared: A node reads another file there, or none.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    read = ray.remote(_read)
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            continue
        with tempfile.NamedTemporaryFile("w", dir=path, prefix=".probe-") as probe:
            probe.write(probe.name)
            probe.flush()
            os.fsync(probe.fileno())
            remote.update(Path(probe.name))
            answers = [
                read.options(
                    num_cpus=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                ).remote(probe.name)
                for node in nodes
            ]
            failed = ""
            for node, answer in zip(nodes, answers, strict=True):
                try:
                    found = ray.get(answer, timeout=_NODE_SECONDS)
                except ray.exceptions.RayError as error:
                    found = f"no answer: {' '.join(str(error).split())}"
                if found != probe.name and not failed:
                    failed = (
                        f"{remote.named(path)}: the node {node['NodeManagerAddress']} "
                        f"({node['NodeID'][:8]}) does not see what is written there ({found}); "
                        "mount one storage at that path on all nodes, or use a store that all reach"
                    )
            remote.delete(Path(probe.name))
            if failed:
                raise NotShared(failed)


def _read(path: str) -> str:
    """Return what is in a file, or why it cannot be read; a network's file may come late."""
    for _ in range(10):
        try:
            return remote.read(Path(path)).decode()
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.3)
    return reason
