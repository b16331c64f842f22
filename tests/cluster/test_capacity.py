"""What fits on the nodes of a cluster, piece by piece."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystt.cluster.capacity import (
    Bundle,
    ClusterTooSmall,
    encoder_bundles,
    make_room,
    pool_bundles,
    unplaced,
)
from raystt.config import ResourcesConfig

EIGHT = [{"CPU": 32.0, "GPU": 8.0}] * 2


def left(nodes: list[dict[str, float]], **resources: float) -> list[str]:
    """Return which processes of the pools find no room."""
    config = ResourcesConfig.model_validate({"data_cpus": 0.0, **resources})
    return [bundle.what for bundle in unplaced(pool_bundles(config), nodes)]


def test_a_process_does_not_span_nodes() -> None:
    # all of these would fit if the nodes were one
    assert left(EIGHT, trainers=1, cpus_per_worker=40.0) == ["worker of a trainer"]
    gpus = {"gpus_per_worker": 3.0, "cpus_per_worker": 1.0}
    assert left(EIGHT, trainers=5, **gpus) == ["worker of a trainer"]
    assert left(EIGHT, trainers=4, **gpus) == []


def test_a_share_of_a_gpu_lies_on_one_device() -> None:
    pools = {"trainers": 14, "gpus_per_worker": 1.0, "gpus_per_evaluator": 0.6}
    assert left(EIGHT, **pools, evaluators=3) == ["evaluator"]
    assert left(EIGHT, **pools, evaluators=2) == []
    assert left(EIGHT, **pools | {"gpus_per_evaluator": 0.5}, evaluators=4) == []
    assert left(EIGHT, **pools | {"gpus_per_evaluator": 0.5}, evaluators=5) == ["evaluator"]


def test_what_fills_the_nodes_to_the_brim_fits() -> None:
    assert left(EIGHT, trainers=14, gpus_per_worker=1.0, evaluators=2, gpus_per_evaluator=1.0) == []
    assert left([{"CPU": 2.0}], trainers=3, evaluators=1, data_cpus=0.25) == []
    assert left([{"CPU": 2.0}], trainers=3, evaluators=1, data_cpus=0.5) != []
    two = {"trainers": 1, "workers_per_trainer": 16, "gpus_per_worker": 1.0}
    assert left(EIGHT, **two, cpus_per_worker=3.75, evaluators=4, cpus_per_evaluator=1.0) == []
    # The largest first on the first node would leave one of the four alone.
    tens = [{"CPU": 10.0}] * 2
    sizes = {"cpus_per_worker": 4.0, "cpus_per_evaluator": 3.0}
    assert left(tens, trainers=2, evaluators=4, **sizes) == []


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 16), st.integers(1, 16))
def test_equal_processes_fill_equal_nodes(count: int, nodes: int, size: int, each: int) -> None:
    bundles = [Bundle("one", each / 4, 0.0, ())] * count
    room = nodes * (size // each)
    assert len(unplaced(bundles, [{"CPU": size / 4}] * nodes)) == max(0, count - room)
    whole = [Bundle("one", 0.5, float(each), ())] * count
    assert len(unplaced(whole, [{"CPU": 99.0, "GPU": float(size)}] * nodes)) == max(0, count - room)


def test_a_cluster_that_is_too_small_is_refused(
    ray_local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def need(what: Callable[[ResourcesConfig], list[Bundle]], **keys: float) -> None:
        resources = ResourcesConfig.model_validate({"wait_for_nodes": 60.0, **keys})
        make_room(what(resources), resources, pytest.fail)  # a local Ray is not waited for

    need(pool_bundles, trainers=2, cpus_per_worker=0.5)
    need(encoder_bundles)
    with pytest.raises(ClusterTooSmall) as caught:
        need(pool_bundles, trainers=80, evaluators=1, cpus_per_evaluator=0.5)
    for part in ("worker of a trainer (0.5 CPU)", "1 x (2 CPU, 0 GPU)", "resources.trainers"):
        assert part in str(caught.value)
    with pytest.raises(ClusterTooSmall, match=r"1 GPU.*resources.gpus_per_worker"):
        need(pool_bundles, gpus_per_worker=1.0)
    with pytest.raises(ClusterTooSmall, match=r"encoder \(4 CPU\).*resources.cpus_per_encoder"):
        need(encoder_bundles, cpus_per_encoder=4.0)
