"""What the pools hold, whether it can lie on the nodes of a cluster, and the wait until it can."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raystt.config import ResourcesConfig
from raystt.errors import BadInput
from raystt.progress import duration

_EPSILON = 1e-6  # shares of CPUs and GPUs are added up in floating point
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 60.0


class ClusterTooSmall(BadInput):
    """The cluster cannot hold what `resources` asks for; the text names what, and the keys."""


@dataclass(frozen=True)
class Bundle:
    """What one process holds on one node; `keys` of `resources` decide it."""

    what: str
    cpus: float
    gpus: float
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return self.what + f" ({self.cpus:g} CPU" + (f", {self.gpus:g} GPU)" if self.gpus else ")")


def pool_bundles(resources: ResourcesConfig) -> list[Bundle]:
    """Return what the trainers, the evaluators and the tasks that read shards hold."""
    workers = resources.trainers * resources.workers_per_trainer
    counts = ("trainers", "workers_per_trainer")
    worker = Bundle(
        "worker of a trainer", resources.cpus_per_worker, resources.gpus_per_worker,
        (*counts, "cpus_per_worker", "gpus_per_worker"),
    )  # fmt: skip
    evaluator = Bundle(
        "evaluator", resources.cpus_per_evaluator, resources.gpus_per_evaluator,
        ("evaluators", "cpus_per_evaluator", "gpus_per_evaluator"),
    )  # fmt: skip
    # Each worker has a task of its own that reads for it.
    reading = Bundle("task that reads shards", resources.data_cpus / workers, 0.0, ("data_cpus",))
    return [worker] * workers + [evaluator] * resources.evaluators + [reading] * workers


def encoder_bundles(resources: ResourcesConfig) -> list[Bundle]:
    """Return what the preparation of a corpus holds at a time."""
    encoder = Bundle(
        "encoder", resources.cpus_per_encoder, resources.gpus_per_encoder,
        ("encoders", "cpus_per_encoder", "gpus_per_encoder"),
    )  # fmt: skip
    writing = Bundle("task that decodes audio or writes shards", 1.0, 0.0, ("encoders",))
    return [encoder] * resources.encoders + [writing]


class _Room:
    """What is left of a node."""

    def __init__(self, node: Mapping[str, float]) -> None:
        self.cpus = node.get("CPU", 0.0)
        self._devices = [1.0] * int(node.get("GPU", 0.0))

    def _chosen(self, gpus: float) -> list[int] | None:
        """Return the devices for a bundle: whole ones, or the fullest that has such a share."""
        if not gpus:
            return []
        count, share = (int(gpus), 1.0) if gpus >= 1 else (1, gpus)
        free = [i for i, left in enumerate(self._devices) if left >= share - _EPSILON]
        free.sort(key=lambda i: self._devices[i])
        return free[:count] if len(free) >= count else None

    def took(self, bundle: Bundle) -> bool:
        """Take a bundle in, if there is room for it."""
        chosen = self._chosen(bundle.gpus) if bundle.cpus <= self.cpus + _EPSILON else None
        if chosen is None:
            return False
        self.cpus -= bundle.cpus
        for device in chosen:
            self._devices[device] -= min(bundle.gpus, 1.0)
        return True


def unplaced(bundles: Sequence[Bundle], nodes: Sequence[Mapping[str, float]]) -> list[Bundle]:
    """Return the bundles that find no room; none where all of them fit.

    The largest come first, each on the first node with room for it, and in a second try on the
    emptiest. A share of a GPU lies on one device, and all that a bundle has on one node.

    Args:
        bundles: What is to be placed.
        nodes: "CPU" and "GPU" of each node, whole.
    """
    left = _place(bundles, nodes, spread=False)
    return min(left, _place(bundles, nodes, spread=True), key=len) if left else left


def _place(
    bundles: Sequence[Bundle], nodes: Sequence[Mapping[str, float]], spread: bool
) -> list[Bundle]:
    rooms, left = [_Room(node) for node in nodes], []
    ordered = sorted(bundles, key=lambda b: (b.gpus, b.cpus), reverse=True)
    for bundle, equals in itertools.groupby(ordered):
        possible = list(rooms)
        for _ in equals:
            if spread:
                possible.sort(key=lambda room: -room.cpus)
            while possible and not possible[0].took(bundle):
                del possible[0]  # nor will it take the next that is equal
            if not possible:
                left.append(bundle)
    return left


def shortage(left: Sequence[Bundle], nodes: Sequence[Mapping[str, float]]) -> str:
    """Say what finds no room, and on what nodes."""
    what = ", ".join(f"{count} x {bundle}" for bundle, count in Counter(left).items())
    sizes = Counter((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes)
    there = ", ".join(f"{n} x ({cpus:g} CPU, {gpus:g} GPU)" for (cpus, gpus), n in sizes.items())
    return f"no node has room for {what}, beside the others; the nodes are {there}"


def to_mend(left: Sequence[Bundle], resources: ResourcesConfig) -> str:
    """Say what to do about bundles that find no room."""
    if resources.auto:
        return "give sizes in place of `resources: auto`, or add nodes"
    keys = dict.fromkeys(f"resources.{key}" for b in left for key in b.keys)
    return f"lower {' or '.join(keys)}, or add nodes"


def make_room(
    bundles: Sequence[Bundle], resources: ResourcesConfig, on_message: Callable[[str], None]
) -> None:
    """Wait until the nodes of the cluster can hold the bundles.

    An autoscaler is asked for them. That a bundle fits on the whole nodes does not mean that it is
    free there: other jobs of the cluster are not looked at.

    Args:
        bundles: What is to be placed.
        resources: How long to wait; a Ray on this machine gets no other nodes.
        on_message: Told at once and every minute what is missing.

    Raises:
        ClusterTooSmall: There is not room enough in time.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    seconds = resources.wait_for_nodes if resources.cluster() else 0.0
    began = told = time.monotonic()
    asked = False
    try:
        while left := unplaced(
            bundles, nodes := [node["Resources"] for node in ray.nodes() if node["Alive"]]
        ):
            now, missing = time.monotonic(), shortage(left, nodes)
            if now - began >= seconds:
                raise ClusterTooSmall(
                    f"resources: {missing}; {to_mend(left, resources)}"
                    + (f" (waited {duration(seconds)})" if seconds else "")
                )
            if not asked:
                wanted = [{"CPU": b.cpus} | ({"GPU": b.gpus} if b.gpus else {}) for b in bundles]
                request_resources(bundles=wanted)
            if not asked or now - told >= _TELL_SECONDS:
                told = now
                left_s = duration(seconds - (now - began))
                on_message(f"waiting for nodes, {left_s} at most: {missing}")
            asked = True
            time.sleep(min(_LOOK_SECONDS, seconds))
    finally:
        if asked:  # it would be asked for them as long as it lives
            request_resources(bundles=[])
