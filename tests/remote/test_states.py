"""States in a store: what happens to a copy happens to the copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from remote.conftest import machine, made

from raystt import remote
from raystt.training.jobs import SegmentResult
from raystt.training.states import (
    DONE,
    Checkpoints,
    discard,
    drop_engine,
    engine_of,
    find,
    let_go,
    model_of,
    partial_of,
    publish,
    sweep,
)


def trained(state: Path) -> Path:
    """Publish a state."""
    partial = made(partial_of(state), model__w_bin="weights", engine__rank0_pt="moments")
    publish(partial, state, SegmentResult(
        state=str(state), status="complete", start=0, stop=4, seconds=1.0, setup_seconds=1.0,
        tokens=9, loss=1.0, achieved_words=0.5, achieved_tokens=0.5,
    ))  # fmt: skip
    return state


@pytest.fixture
def url(bucket: str) -> str:
    return f"{bucket}/runs/first/states/k"


def test_a_damaged_copy_is_fetched_again(url: str) -> None:
    state = trained(remote.local(url))
    (state / "model/w.bin").write_text("w")
    assert (model_of(state) / "w.bin").read_text() == "weights"
    (state / "engine/rank0.pt").unlink()
    told: list[str] = []
    assert find(state, told.append) is not None and not told


def test_what_is_damaged_in_the_store_is_trained_again(url: str, tmp_path: Path) -> None:
    state = trained(remote.local(url))
    remote.write(state / "model/w.bin", b"w")
    machine(tmp_path, "there")
    state, told = remote.local(url), list[str]()
    assert find(state, told.append) is None
    assert "model/w.bin has 1 bytes instead of 7" in told[0]
    assert remote.names(state.parent) == set()


def test_a_node_lets_go_of_what_was_discarded_elsewhere(url: str, tmp_path: Path) -> None:
    state = trained(remote.local(url))
    coming = made(state.with_name(".other.1.tmp"), x="of another process")
    machine(tmp_path, "there")
    discard(remote.local(url))
    machine(tmp_path, "here")
    let_go(state.parent)
    assert not state.exists() and coming.exists()


def test_an_engine_is_dropped_by_a_driver_that_lacks_the_state(url: str, tmp_path: Path) -> None:
    trained(remote.local(url))
    machine(tmp_path, "driver")
    drop_engine(remote.local(url))
    assert not remote.local(url).exists()
    machine(tmp_path, "evaluator")
    state = remote.local(url)
    assert (model_of(state) / "w.bin").exists() and not (state / "engine").exists()


def test_checkpoints_and_leavings_are_found_in_the_store(url: str, tmp_path: Path) -> None:
    state = remote.local(url)
    checkpoints = Checkpoints(state, "trials/es-000")
    for step in (2, 10):
        trained(checkpoints.at(step))
    machine(tmp_path, "there")
    elsewhere = Checkpoints(remote.local(url), "trials/es-000")
    found = elsewhere.latest()
    assert found is not None and found.state.endswith("-10")
    assert engine_of(Path(found.state)).exists()

    state = remote.local(url)
    remote.write(partial_of(state) / "half", b"x")
    trained(state)
    sweep(state.parent)
    assert remote.names(state.parent) == {state.name}
    assert DONE in (remote.names(state) or ())
