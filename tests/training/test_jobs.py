"""Segments in their order, and again from where a state was lost."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from tiny import tiny_run

from raystt.training.jobs import CheckpointError, SegmentJob, SegmentResult, Segments, StateLost

PLAN = [(0, 2), (2, 4), (4, 6)]


def segments(path: Path) -> Segments:
    return Segments(tiny_run(path / "corpus"), path / "corpus", path / "states", path / "log", PLAN)


def trained(job: SegmentJob | None, **changes) -> SegmentResult:
    assert job is not None
    values = {
        "state": f"{job.states}/{job.start}", "status": "complete", "start": job.start,
        "stop": job.stop, "seconds": 1.0, "setup_seconds": 0.1, "tokens": 10, "loss": 2.5,
        "achieved_words": 0.5, "achieved_tokens": 0.5, **changes,
    }  # fmt: skip
    return SegmentResult(**values)


def test_each_segment_goes_on_from_the_one_before(tmp_path: Path) -> None:
    run, parent = segments(tmp_path), None
    for start, stop in PLAN:
        job = run.next_job()
        assert job is not None and job == run.next_job()
        assert (job.start, job.stop, job.parent) == (start, stop, parent)
        assert (job.states, job.log) == (str(tmp_path / "states"), str(tmp_path / "log"))
        run.done(trained(job))
        parent = f"{tmp_path}/states/{start}"
    assert run.next_job() is None
    assert [result.stop for result in run.finished] == [2, 4, 6]


def test_a_divergence_is_the_last(tmp_path: Path) -> None:
    run = segments(tmp_path)
    run.done(trained(run.next_job(), status="diverged", diverged_at=1))
    assert run.next_job() is None


def test_rewinding_drops_what_came_of_a_lost_state(tmp_path: Path) -> None:
    run = segments(tmp_path)
    for _ in PLAN:
        run.done(trained(run.next_job()))
    run.rewind(StateLost("moved/states/2", "gone"))
    job = run.next_job()
    assert job is not None and (job.start, job.parent) == (2, f"{tmp_path}/states/0")
    run.rewind(StateLost(f"{tmp_path}/states/0", "gone"))
    job = run.next_job()
    assert job is not None and (job.start, job.parent) == (0, None)


def test_a_state_lost_three_times_is_an_error(tmp_path: Path) -> None:
    run = segments(tmp_path)
    for number in range(3):
        run.done(trained(run.next_job()))
        lost = StateLost(f"{tmp_path}/states/0", "model/x is missing")
        if number < 2:
            run.rewind(lost)
            assert run.finished == []
    with pytest.raises(CheckpointError, match="model/x is missing.*third time"):
        run.rewind(lost)


def test_the_loss_of_a_foreign_state_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StateLost, match="base: gone"):
        segments(tmp_path).rewind(StateLost("base", "gone"))


def test_a_lost_state_is_told_across_processes() -> None:
    from ray import cloudpickle
    from ray.exceptions import RayTaskError

    lost = StateLost("states/abc", "engine/x is missing")
    for module in (pickle, cloudpickle):
        again = module.loads(module.dumps(lost))
        assert type(again) is StateLost
        assert (again.state, str(again)) == ("states/abc", "states/abc: engine/x is missing")
    # As `ray.get` raises it.
    raised = RayTaskError("train", "traceback", lost).as_instanceof_cause()
    assert isinstance(raised, StateLost) and raised.state == "states/abc"
