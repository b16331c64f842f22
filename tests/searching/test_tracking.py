"""What MLflow and W&B are told of a search, and of one that was killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

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
    found = [
        (one.info.run_name, one.info.status, one.data.metrics.get("asr_bleu"))
        for one in client.search_runs([experiment.experiment_id])
    ]
    return sorted(found, key=lambda one: (one[:2], one[2] is None))


@pytest.mark.slow
def test_mlflow_is_told_what_it_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = search(tmp_path, tracking=["mlflow"])
    scores = [result(number, 10.0 * number) for number in range(5)]
    store = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)

    def cut_off(run: Path, number: int, last: dict[str, object] | None) -> Any:
        """A trial whose search was killed after it had reported."""
        (callback,) = tracking.trackers(played, run)
        callback.setup()
        trial = finished_trial(scores[number], run)
        callback.on_trial_start(0, [], trial)
        callback.on_trial_result(0, [], trial, last or dict(trial.last_result))
        return callback, trial

    in_training = {"step": 3, "training_iteration": 1}
    cut_off(tmp_path, 1, None)  # its result was written, and MLflow was told its score
    cut_off(tmp_path, 2, in_training)  # its result was written
    cut_off(tmp_path, 3, in_training)
    cut_off(tmp_path / "other", 3, in_training)
    callback, trial = cut_off(tmp_path, 4, in_training)
    callback.on_trial_complete(0, [], trial)  # it failed once, and has a result since
    for _ in range(2):  # the second finds nothing to do
        kept = [scores[0], scores[1], scores[2], scores[4]]
        tracking.mend(tracking.trackers(played, tmp_path), kept, tmp_path)
        assert told(store, "played") == [
            ("es#0", "FINISHED", 0.0),
            ("es#1", "FINISHED", 10.0),
            ("es#2", "FINISHED", 20.0), ("es#2", "KILLED", None),
            ("es#3", "KILLED", None), ("es#3", "RUNNING", None),
            ("es#4", "FINISHED", 40.0), ("es#4", "FINISHED", None),
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
    assert "RUNNING" not in {status for _, status, _ in runs}
    scores = [(f"es#{one.trial}", "FINISHED", one.asr_bleu) for one in run.trials.itertuples()]
    assert [one for one in runs if one[2] is not None] == sorted(scores)
    assert len(list((run.path / "wandb").glob("offline-run-*/*.wandb"))) >= TRIALS


def test_a_tracker_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(tracking.TrackingError, match=r"tracking: wandb .*raystt\[wandb\]"):
        tracking.trackers(search(tmp_path, tracking=["wandb"]), tmp_path)
