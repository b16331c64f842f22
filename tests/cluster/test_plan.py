"""`resources: auto`: what is planned fits, uses what is there, and grows with the nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystt.cluster.capacity import encoder_bundles, pool_bundles, unplaced
from raystt.cluster.plan import describe, grown, planned
from raystt.config import ResourcesConfig

AUTO = ResourcesConfig(auto=True)
NODE = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 2.0}], 1, (2, 0.5, 0.0, 2, 0.0)),
        ([{"CPU": 1.0}], 1, (2, 0.25, 0.0, 2, 0.0)),
        ([{"CPU": 32.0}], 1, (16, 1.0, 0.0, 16, 0.0)),
        ([{"CPU": 8.0, "GPU": 1.0}], 1, (1, 4.0, 0.5, 1, 0.5)),
        ([{"CPU": 16.0, "GPU": 2.0}], 2, (1, 4.0, 1.0, 1, 0.0)),
        ([NODE], 1, (7, 4.0, 1.0, 2, 0.5)),
        ([NODE] * 2, 1, (14, 4.0, 1.0, 4, 0.5)),
        ([NODE] * 2, 4, (3, 4.0, 1.0, 4, 0.5)),
        ([{"CPU": 0.0}, NODE], 1, (7, 4.0, 1.0, 2, 0.5)),
    ],
)
def test_what_is_planned(
    nodes: list[dict[str, float]], workers: int, expected: tuple[float, ...]
) -> None:
    found = planned(AUTO.model_copy(update={"workers_per_trainer": workers}), nodes)
    assert (
        found.trainers, found.cpus_per_worker, found.gpus_per_worker,
        found.evaluators, found.gpus_per_evaluator,
    ) == expected  # fmt: skip
    assert not found.auto and ResourcesConfig.model_validate(found.model_dump()) == found


NODES = st.lists(
    st.builds(
        lambda cpus, gpus: {"CPU": float(cpus), "GPU": float(gpus)},
        st.integers(2, 128), st.integers(0, 8),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@given(NODES.filter(lambda nodes: all(n["CPU"] >= 4 * n["GPU"] for n in nodes)))
def test_it_fits_on_any_nodes_and_leaves_no_room(nodes: list[dict[str, float]]) -> None:
    found = planned(AUTO, nodes)
    assert unplaced(pool_bundles(found), nodes) == []
    assert unplaced(encoder_bundles(found), nodes) == [] or not any(n["GPU"] for n in nodes)
    more = grown(found, nodes)
    assert unplaced(pool_bundles(more), nodes) == []
    assert grown(more, nodes) == more and more.trainers >= found.trainers


def test_what_has_a_size_keeps_it() -> None:
    given_ = ResourcesConfig(trainers=3)
    assert planned(given_, [NODE]) == given_


def test_nothing_fits_on_no_node() -> None:
    assert unplaced(pool_bundles(planned(AUTO, [])), []) != []


def test_nodes_that_join_are_used_and_those_that_leave_change_nothing() -> None:
    one = planned(AUTO, [NODE])
    two = grown(one, [NODE] * 2)
    assert (two.trainers, two.evaluators) == (14, 4)
    assert two.data_cpus / two.trainers == one.data_cpus / one.trainers  # what each group was told
    assert grown(two, [NODE]) == two


def test_the_plan_is_told() -> None:
    lines = describe(planned(AUTO, [NODE] * 2), [NODE] * 2)
    assert lines[0] == "2 nodes: 128 CPUs, 16 GPUs"
    assert any(line.startswith("14 trainers x 1 workers (4 CPU, 1 GPU each)") for line in lines)
    assert lines[-1] == "taken: 78 CPUs, 16 GPUs"
