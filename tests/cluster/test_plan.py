"""`resources: auto`: what is planned fits, uses what is there, and grows with the nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raystt
from raystt.cluster.capacity import pool_bundles, unplaced
from raystt.cluster.plan import describe, fitted, planned
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
        ([NODE] * 2, 4, (3, 4.0, 1.0, 6, 0.5)),
        ([{"CPU": 16.0, "GPU": 2.0}], 1, (1, 4.0, 1.0, 2, 0.5)),
        ([{"CPU": 2.0}], 2, (1, 0.5, 0.0, 2, 0.0)),
        ([{"CPU": 32.0}], 2, (8, 1.0, 0.0, 16, 0.0)),
        ([{"CPU": 4.0}], 4, (1, 0.5, 0.0, 4, 0.0)),
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


@given(NODES.filter(lambda nodes: all(n["CPU"] >= 4 * n["GPU"] for n in nodes)), st.integers(1, 4))
def test_what_is_planned_fits_and_is_all_that_does(
    nodes: list[dict[str, float]], workers: int
) -> None:
    found = planned(AUTO.model_copy(update={"workers_per_trainer": workers}), nodes)
    left = unplaced(pool_bundles(found), nodes)
    gpus = sum(int(node["GPU"]) for node in nodes)
    if workers == 1 or gpus >= workers or (not gpus and sum(n["CPU"] for n in nodes) >= 8):
        assert left == []
    if not left:
        assert fitted(found, nodes) == found


@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=2, max_size=6), st.integers(1, 3))
def test_nodes_that_join_or_leave_come_to_what_is_left(sizes: list[int], workers: int) -> None:
    """What was there before plays no part, but in the size of a process."""
    nodes = [{"CPU": 8.0 * size, "GPU": float(size)} for size in sizes]
    found = first = planned(AUTO.model_copy(update={"workers_per_trainer": workers}), nodes[:1])
    for count in [*range(2, len(nodes) + 1), *range(len(nodes) - 1, 0, -1)]:
        found = fitted(found, nodes[:count])
        if not unplaced(pool_bundles(first), nodes[:1]):
            assert unplaced(pool_bundles(found), nodes[:count]) == []
            assert found == fitted(first, nodes[:count])
    assert found.evaluators >= 1


def test_what_has_a_size_keeps_it() -> None:
    given_ = ResourcesConfig(trainers=3)
    assert planned(given_, [NODE]) == given_


def test_nothing_fits_on_no_node() -> None:
    assert unplaced(pool_bundles(planned(AUTO, [])), []) != []


def test_nodes_that_join_are_used() -> None:
    one = planned(AUTO, [NODE])
    two = fitted(one, [NODE] * 2)
    assert (two.trainers, two.evaluators) == (14, 4)
    assert two.data_cpus / two.trainers == one.data_cpus / one.trainers  # what each group was told
    assert fitted(two, [NODE]) == one
    assert fitted(two, []) == two  # its nodes may come back


def test_the_plan_is_told() -> None:
    lines = describe(planned(AUTO, [NODE] * 2), [NODE] * 2)
    assert lines[0] == "nodes: 2, with 128 CPUs and 16 GPUs"
    assert any(line.startswith("trainers: 14, of 1 workers (4 CPU, 1 GPU each)") for line in lines)
    assert lines[-1] == "taken: 78 CPUs, 16 GPUs"


FIRST = Path(__file__).resolve().parents[2] / "search_spaces" / "first.yaml"


def test_a_check_asks_the_cluster_that_is_there(
    ray_local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    infra = tmp_path / "infra.yaml"
    infra.write_text(f"root: {tmp_path}\nresources: {{auto: true, address: auto}}\n")
    notes = raystt.check(FIRST, infra=infra, cluster=True).notes
    assert "nodes: 1, with 2 CPUs and 0 GPUs" in notes
    assert any(note.startswith("trainers: 2, of 1 workers (0.5 CPU") for note in notes)
    with pytest.raises(raystt.BadInput, match="it names no cluster, nor does RAY_ADDRESS"):
        raystt.check(FIRST, cluster=True)
