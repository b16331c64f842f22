"""What MLflow and W&B are told of a search, and of one that was killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from made import result
from tune_session import TRIALS, search, session

import raystt
from raystt.searching import tracking
from raystt.searching.experiment import finished_trial


def told(store: str, name: str) -> list[tuple[str, str, float | None]]:
    """Name, status and last score of each run in a store of MLflow."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(name)
    return sorted(
        (one.info.run_name, one.info.status, one.data.metrics.get("asr_bleu"))
        for one in client.search_runs([experiment.experiment_id])
    )


@pytest.mark.slow
def test_mlflow_is_told_what_it_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    played = search(tmp_path, tracking=["mlflow"])
    scores = {number: result(number, 10.0 * number) for number in range(3)}

    def begun(run: Path, number: int) -> None:
        (callback,) = tracking.trackers(played, run)
        callback.setup()
        callback.on_trial_start(0, [], finished_trial(scores[number], run))

    other = tmp_path / "other"
    store = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    begun(tmp_path, 1)
    begun(tmp_path, 2)
    begun(other, 2)
    for _ in range(2):  # the second finds nothing to do
        tracking.mend(tracking.trackers(played, tmp_path), [scores[0], scores[1]], tmp_path)
        assert told(store, "played") == [
            ("es#0", "FINISHED", 0.0), ("es#1", "FINISHED", 10.0), ("es#1", "KILLED", None),
            ("es#2", "KILLED", None), ("es#2", "RUNNING", None),
        ]  # fmt: skip


@pytest.mark.long
@pytest.mark.ray
def test_trackers_are_told_of_every_trial(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    environment = {"MLFLOW_TRACKING_URI": store, "WANDB_MODE": "offline"}
    assert session(tmp_path, 2, "mlflow", "wandb", **environment) == -signal.SIGKILL
    assert session(tmp_path, 0, "mlflow", "wandb", **environment) == 0
    run = raystt.open_run(tmp_path / "runs" / "played")
    runs = told(store, "played")
    assert {status for _, status, _ in runs} == {"FINISHED", "KILLED"}
    finished = [(f"es#{one.trial}", "FINISHED", one.asr_bleu) for one in run.trials.itertuples()]
    assert [one for one in runs if one[1] == "FINISHED"] == sorted(finished)
    assert len(list((run.path / "wandb").glob("offline-run-*/*.wandb"))) >= TRIALS


def test_a_tracker_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(tracking.TrackingError, match=r"tracking: wandb .*raystt\[wandb\]"):
        tracking.trackers(search(tmp_path, tracking=["wandb"]), tmp_path)
